import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted, python } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const NAMES = ['f1', 'f2', 'd/x1']
const CODE = `
import ctypes, os, sys
try:
    fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
except OSError as error:
    sys.exit(print(error.strerror))
libc = ctypes.CDLL(None, use_errno=True)
n = libc.getdents64(fd, ctypes.create_string_buffer(4096), 4096)
print('entries' if n > 0 else 'end' if n == 0 else os.strerror(ctypes.get_errno()))
`

// getdents(2) of a directory that was removed ends with ENOENT, which readers take for its end: a full directory looks empty.
describeMounted('a directory of SOURCE that is removed while it is open', () => {
  let ferry: Ferry
  const bound: string[] = []

  beforeEach(() => {
    ferry = new Ferry()
    mkdirSync(ferry.under('d'))
    for (const name of NAMES) writeFileSync(ferry.under(name), `content of ${name}`)
  })

  afterEach(async () => {
    // First, and whoever uses it: what holds it is removed.
    for (const path of bound.splice(0)) execFileSync('umount', ['-l', path])
    await ferry.clear()
  })

  const listing = (name = '.'): Promise<string> =>
    python(CODE, join(ferry.target, name)).then((text) => text.trim())

  async function drained(...more: string[]): Promise<void> {
    await ferry.mount('--mode', 'drain', ...more)
    await ferry.done('migrate', ferry.target, '--wait')
  }

  async function tellsOfIt(): Promise<void> {
    await ferry.until('the failure', ({ failures }) =>
      failures.some(({ path, reason }) => path === '.' && reason.startsWith('SOURCE was removed')),
    )
    const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
    expect({ status, stdout }).toEqual({ status: 3, stdout: expect.stringContaining('unreadable') })
  }

  test.each(['removed', 'made anew'])('P1, P2: a drained SOURCE that is %s hides no file', async (how) => {
    await drained()
    await ferry.eventually('an empty volume', async () => readdirSync(ferry.source).length === 0)
    rmdirSync(ferry.source)
    if (how === 'made anew') mkdirSync(ferry.source)
    const seen = async (): Promise<void> => {
      expect(await listing()).toBe('entries')
      expect(readdirSync(ferry.target).sort()).toEqual(['d', 'f1', 'f2'])
      for (const name of NAMES)
        expect(readFileSync(join(ferry.target, name), 'utf8')).toBe(`content of ${name}`)
    }
    await seen()
    await tellsOfIt()
    // What stands for SOURCE from then on, and what the next worker has.
    await seen()
    await ferry.killWorker()
    await seen()
    await ferry.done('restore', ferry.target, join(ferry.root, 'back'))
  })

  test('P1, P2: SOURCE with all its files, in mirror, is an error, and no empty directory', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.done('migrate', ferry.target, '--wait')
    rmSync(ferry.source, { recursive: true })
    expect(await listing()).toMatch(/Input\/output error|Stale file handle/)
    await tellsOfIt()
    expect(await listing()).toMatch(/Input\/output error|Stale file handle/)
    await expect(ferry.run('ls', ferry.target)).rejects.toThrow()
  })

  test.each(['mirror', 'prefer-store', 'drain'])(
    'P2: in %s a look-up below a directory of a removed SOURCE takes no file out of the store',
    async (mode) => {
      await ferry.mount('--mode', mode === 'drain' ? 'mirror' : mode)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.run('ls', '-R', ferry.target)
      // Nothing of it is reaped yet.
      if (mode === 'drain') await ferry.mode('drain')
      rmSync(ferry.source, { recursive: true, force: true })
      for (const name of ['d/x1', 'd', 'f1', 'd/x1'])
        await ferry.run('cat', join(ferry.target, name)).catch(() => undefined)
      await tellsOfIt()
      await ferry.done('unmount', ferry.target)
      const back = join(ferry.root, 'back')
      const store = `embedded:${join(ferry.stateDir, 'store')}`
      await ferry.done('restore', '--store', store, '--namespace', 'ferryfs', back)
      for (const name of NAMES) expect(readFileSync(join(back, name), 'utf8')).toBe(`content of ${name}`)
    },
  )

  test('P1, P2: an overlayfs that goes on to show links of what was removed does not get by with it', async () => {
    const layers = ['lower', 'upper', 'work', 'both'].map((name) => join(ferry.root, name))
    const [lower = '', upper, work, both = ''] = layers
    for (const layer of layers) mkdirSync(layer)
    mkdirSync(join(lower, 'source'))
    writeFileSync(join(lower, 'source', 'f1'), 'content')
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, both])
    bound.push(both)
    const source = join(both, 'source')
    await ferry.done('mount', source, ferry.target, '--state-dir', ferry.stateDir, '--mode', 'prefer-store')
    await ferry.done('migrate', ferry.target, '--wait')
    rmSync(source, { recursive: true })
    await tellsOfIt()
    expect(await listing()).not.toBe('end')
  })

  test('P1, P6: a directory that is mounted on another one as well is listed when it has left the volume', async () => {
    mkdirSync(ferry.under('e'))
    execFileSync('mount', ['--bind', ferry.under('d'), ferry.under('e')])
    bound.push(ferry.under('e'))
    await drained()
    await ferry.eventually('the directory to go', async () => !existsSync(ferry.under('d')))
    for (const name of ['d', 'e']) {
      expect(await listing(name)).toBe('entries')
      expect(readdirSync(join(ferry.target, name))).toEqual(['x1'])
    }
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.done('verify', ferry.target)
  })
})
