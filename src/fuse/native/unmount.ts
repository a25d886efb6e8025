import { spawn } from 'node:child_process'
import { MountError, unmountKernel } from '../kernel/mount.ts'
import { mountsOf } from '../kernel/mountinfo.ts'

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Unmounts what is uppermost at `target`, a real path: root by umount(8), anybody else what he mounted himself by
 * fusermount(1), which has the right to.
 * @throws MountError
 */
export async function unmountFuse(
  target: string,
  { lazy = false }: { readonly lazy?: boolean } = {},
): Promise<void> {
  if (process.geteuid?.() === 0) return unmountKernel(target, { lazy })
  const { status, words } = await fusermount('-u', ...(lazy ? ['-z'] : []), '--', target)
  if (status === 0) return
  if (mountsOf(target).length === 0) throw new MountError('not-mounted', `nothing is mounted on ${target}`)
  if (/busy/i.test(words)) {
    throw new MountError(
      'busy',
      `${target} is in use; end what uses it (fuser -vm ${target}), or detach it lazily`,
    )
  }
  throw new MountError('failed', `unmounting ${target} failed: ${words}`)
}

function fusermount(...args: string[]): Promise<{ readonly status: number | null; readonly words: string }> {
  return new Promise((resolve) => {
    const child = spawn('fusermount', args, {
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
    })
    let text = ''
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    child.once('error', (error) =>
      resolve({ status: null, words: `${error.message}; install the package fuse` }),
    )
    child.once('close', (status) =>
      resolve({ status, words: text.trim().replace(/\s*\n\s*/g, ' ') || `fusermount ended with ${status}` }),
    )
  })
}
