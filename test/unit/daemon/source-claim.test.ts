import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { registryFile } from '../../../src/config/paths.ts'
import { SourceClaim } from '../../../src/daemon/source-claim.ts'
import { gone } from '../../support/daemon/place.ts'

const isRoot = process.geteuid?.() === 0

let root: string
let runDir: string
const ends: Array<() => Promise<void> | void> = []

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-claim-')))
  chmodSync(root, 0o755)
  runDir = join(root, 'run')
  for (const path of ['run', 'a', 'a/b', 'a/b/c', 'beside']) mkdirSync(join(root, path))
})

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
  rmSync(root, { recursive: true, force: true })
})

const at = (path: string): string => join(root, path)

/** The claim of this process; given up at the end of the test. */
async function claim(path: string): Promise<SourceClaim> {
  const taken = await SourceClaim.take(at(path), runDir)
  ends.push(() => taken.release())
  return taken
}

/** A process that claims a directory, or, as another user, only looks as if it did. */
async function other(path: string, user?: number): Promise<number> {
  const sources = new URL('../../../src/', import.meta.url).href
  const script = `
    const { SourceClaim } = await import('${sources}daemon/source-claim.ts')
    globalThis.claim = await SourceClaim.take(process.argv[1], process.argv[2])
    process.stdout.write('claimed')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, at(path), runDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
    ...(user === undefined ? {} : { uid: user, gid: user }),
  })
  const pid = child.pid ?? 0
  ends.push(async () => {
    child.kill('SIGKILL')
    await gone(pid)
  })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return pid
}

/** Records that process as the daemon of a mount. */
function recorded(pid: number, source: string): void {
  const entry = {
    target: '/mnt/t',
    source,
    stateDir: '/s',
    socket: '/s/c',
    supervisorPid: pid,
    supervisorTicks: 1,
  }
  writeFileSync(registryFile(runDir, '/mnt/t'), JSON.stringify(entry))
}

describe('P1: one SOURCE is served once', () => {
  it('neither it, nor what is in it, nor what is around it; what lies beside it is free', async () => {
    recorded(await other('a/b'), at('a/b'))
    const ends_ = /at \/mnt\/t; "ferryfs status \/mnt\/t" shows it, "ferryfs unmount \/mnt\/t" ends it$/
    await expect(claim('a/b')).rejects.toThrow(/SOURCE .*a\/b is served already/)
    await expect(claim('a/b')).rejects.toThrow(ends_)
    await expect(claim('a/b/c')).rejects.toThrow(/a\/b\/c lies inside .*a\/b, which is served already/)
    await expect(claim('a')).rejects.toThrow(/SOURCE .*a is around a directory that is served already/)
    await claim('beside')
  })

  it('also where the holder is not recorded here', async () => {
    const pid = await other('a/b')
    await expect(claim('a')).rejects.toThrow(
      `around a directory that is served already by process ${pid} of user ${process.getuid?.()}; end that first`,
    )
  })

  it('is free again when it is given up, or its daemon was killed', async () => {
    const first = await claim('a/b')
    await expect(claim('a')).rejects.toThrow(/served already/)
    first.release()
    const pid = await other('a')
    await expect(claim('a/b/c')).rejects.toThrow(/served already/)
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    await claim('a/b')
  })

  it('what is not there is claimed by nobody', async () => {
    await claim('none')
    await claim('none')
  })

  it('a symlink leads to the same directory', async () => {
    symlinkSync(at('a/b'), at('link'))
    await other('a/b')
    await expect(claim('link')).rejects.toThrow(/served already/)
    await expect(claim('link/c')).rejects.toThrow(/lies inside .*, which is served already/)
  })

  it.skipIf(!isRoot)('a bind mount does, too, of it, of what is in it and of what is around it', async () => {
    for (const name of ['same', 'inner', 'outer']) mkdirSync(at(name))
    for (const [from, to] of [
      ['a/b', 'same'],
      ['a/b/c', 'inner'],
      ['a', 'outer'],
    ] as const) {
      execFileSync('mount', ['--bind', at(from), at(to)])
      ends.push(() => void execFileSync('umount', [at(to)]))
    }
    const served = await claim('a/b')
    await expect(claim('same')).rejects.toThrow(/is served already/)
    await expect(claim('inner')).rejects.toThrow(/lies inside .*, which is served already/)
    await expect(claim('outer')).rejects.toThrow(/is around a directory that is served already/)
    served.release()
    // The other way round: what is served was reached through a bind mount.
    await claim('inner')
    await expect(claim('a/b')).rejects.toThrow(/is around a directory that is served already/)
    await expect(claim('a/b/c')).rejects.toThrow(/is served already/)
  })

  it.skipIf(!isRoot)('P6: a user who may only read it does not keep others from being served', async () => {
    await other('a/b', 12_345)
    await claim('a')
    await expect(claim('a/b')).rejects.toThrow(/lies inside .*, which is served already/)
  })

  it.skipIf(!isRoot)('a user who may change it does', async () => {
    chmodSync(at('a/b'), 0o777)
    const pid = await other('a/b', 12_345)
    await expect(claim('a/b')).rejects.toThrow(`by process ${pid} of user 12345`)
  })
})
