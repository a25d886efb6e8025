import type { Remote } from '../posix/agent.ts'
import { S_IFCHR, S_IFIFO, O_CREAT, O_RDWR } from '../posix/constants.ts'
import { SyscallError } from '../posix/libc.ts'
import { pattern } from '../mount/pattern.ts'

async function ifItCan(body: () => Promise<unknown>): Promise<void> {
  try {
    await body()
  } catch (error) {
    // The volume has no such thing: then there is none to be kept.
    if (!(error instanceof SyscallError)) throw error
  }
}

/** A bit of everything that a legacy volume may have, as far as this one can. */
export async function seedVolume(call: Remote, top: string): Promise<void> {
  const at = (name: string): string => `${top}/${name}`
  await call.mkdir(at('d'), 0o2750)
  await call.mkdir(at('d/deeper'))
  await call.writeFile(at('empty'), '')
  await call.writeFile(at('small'), pattern(5000, 1))
  await call.writeFile(at('d/large'), pattern(2_300_000, 2))
  await call.writeFile(at('d/deeper/same'), pattern(70_000, 3))
  await call.writeFile(Buffer.from(`${top}/latin1 \xff`, 'latin1'), 'a name that is not UTF-8')
  await call.chmod(at('small'), 0o4711)
  await call.symlink('../nowhere', at('d/link'))
  await ifItCan(() => call.chown(at('d/large'), 4101, 4102))
  await ifItCan(() => call.link(at('small'), at('d/second name')))
  await ifItCan(() => call.mknod(at('fifo'), S_IFIFO | 0o640, 0n))
  await ifItCan(() => call.mknod(at('null'), S_IFCHR | 0o666, 0x103n))
  await ifItCan(() => call.setxattr(at('empty'), 'user.colour', 'blue'))
  await ifItCan(() => call.setxattr(at('d'), 'trusted.x', Buffer.alloc(300, 7)))
  const fd = await call.open(at('sparse'), O_CREAT | O_RDWR)
  await call.write(fd, 'end', 9 << 20)
  await call.close(fd)
  for (const name of ['small', 'sparse', 'd/deeper/same', 'd/deeper', 'd'])
    await call.utimens(at(name), 1_000_000_001_000_000_000n, 1_234_567_890_123_456_789n)
}
