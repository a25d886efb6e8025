import { cpSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// The embedded store lies in the state directory and goes back with it, so that its lease tells nothing; SOURCE has gone on.
const NAMES = ['f1', 'f2', 'f3']

describeMounted('a state directory that is put back with its store', () => {
  let ferry: Ferry
  let copy: string
  let newest: string

  beforeEach(() => {
    ferry = new Ferry()
    copy = join(ferry.root, 'copy')
    newest = join(ferry.root, 'newest')
    for (const name of NAMES) writeFileSync(ferry.under(name), `content of ${name}`)
  })

  afterEach(() => ferry.clear())

  async function drain(): Promise<void> {
    await ferry.mount()
    await ferry.done('mode', ferry.target, 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.eventually('an empty volume', async () =>
      NAMES.every((name) => !existsSync(ferry.under(name))),
    )
    await ferry.unmount()
  }

  /** The copy in the place of the newest. */
  function putBack(): void {
    renameSync(ferry.stateDir, newest)
    cpSync(copy, ferry.stateDir, { recursive: true, preserveTimestamps: true })
  }

  test.each(['observe', 'mirror', 'drain'] as const)(
    'P2, P3, P5: a copy of %s is refused where SOURCE was drained since, and nothing is destroyed',
    async (mode) => {
      await ferry.mount('--mode', mode)
      if (mode === 'mirror') await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
      await drain()
      putBack()
      // As often as it is tried.
      for (let nth = 0; nth < 3; nth += 1) {
        const { status, stderr } = await ferry.tryMount()
        expect(status).toBe(2)
        expect(stderr).toMatch(/^ferryfs: the state directory [^\n]+ is an older copy of itself[^\n]+\n$/)
      }
      rmSync(ferry.stateDir, { recursive: true })
      renameSync(newest, ferry.stateDir)
      await ferry.mount()
      for (const name of NAMES)
        expect(readFileSync(join(ferry.target, name), 'utf8')).toBe(`content of ${name}`)
      await ferry.done('verify', ferry.target)
    },
  )

  /** The mount that goes on has drained SOURCE; then the copy is put back. */
  async function expectRefusedOnceDrained(): Promise<void> {
    await ferry.eventually('an empty volume', async () =>
      NAMES.every((name) => !existsSync(ferry.under(name))),
    )
    await ferry.unmount()
    putBack()
    const { status, stderr } = await ferry.tryMount()
    expect([status, stderr]).toEqual([2, expect.stringMatching(/is an older copy of itself/)])
  }

  test('P2, P3: so is a copy that was made under the mount which has drained SOURCE since', async () => {
    await ferry.mount()
    await ferry.done('migrate', ferry.target, '--wait')
    cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
    await ferry.done('mode', ferry.target, 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await expectRefusedOnceDrained()
  })

  test('P2, P3: and one from before the first file went, in the mode in which it was made', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.done('migrate', ferry.target, '--pause')
    expect(NAMES.filter((name) => existsSync(ferry.under(name)))).toEqual(NAMES)
    cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
    await ferry.done('migrate', ferry.target, '--resume')
    await ferry.done('migrate', ferry.target, '--wait')
    await expectRefusedOnceDrained()
  })

  test('P2: a copy made under a mount, without its store: all is in doubt, also for restore --state-dir', async () => {
    const store = `embedded:${join(ferry.root, 'store')}`
    await ferry.mount('--mode', 'drain', '--store', store)
    await ferry.done('migrate', ferry.target, '--wait')
    cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
    writeFileSync(join(ferry.target, 'f1'), 'newer')
    await ferry.unmount()
    const back = join(ferry.root, 'back')
    const restored = await ferry.ferryfs('restore', '--state-dir', copy, back)
    expect([restored.status, restored.stdout]).toEqual([3, expect.stringMatching(/^older {4}\.: /m)])
    expect(readFileSync(join(back, 'f1'), 'utf8')).toBe('newer')
    putBack()
    await ferry.mount('--store', store)
    expect(readFileSync(join(ferry.target, 'f1'), 'utf8')).toBe('newer')
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
  })

  test('P2: --take-over mounts it all the same, in doubt, and verify says so', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
    await drain()
    putBack()
    await ferry.mount('--take-over')
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
  })

  test('P5: a copy of a volume that is complete is mounted', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.unmount()
    cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
    await ferry.mount('--mode', 'mirror')
    await ferry.unmount()
    putBack()
    await ferry.mount()
    expect(readFileSync(join(ferry.target, 'f1'), 'utf8')).toBe('content of f1')
  })

  test('P2, P3: its store alone, put back, is a loss that the mount tells of, and nothing is removed', async () => {
    const store = join(ferry.stateDir, 'store')
    await ferry.mount('--mode', 'mirror')
    await ferry.unmount()
    cpSync(store, copy, { recursive: true, preserveTimestamps: true })
    await ferry.mount()
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    rmSync(store, { recursive: true })
    cpSync(copy, store, { recursive: true, preserveTimestamps: true })
    await ferry.mount('--mode', 'drain')
    const reasons = (await ferry.status()).failures.map(({ reason }) => reason)
    expect(reasons).toContainEqual(
      expect.stringMatching(/the store .* is older than what it has acknowledged/),
    )
    await ferry.ferryfs('migrate', ferry.target)
    expect(NAMES.filter((name) => existsSync(ferry.under(name)))).toEqual(NAMES)
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
    const back = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
    expect([back.status, back.stdout]).toEqual([3, expect.stringMatching(/^older {4}\.: .*is older than/m)])
    await ferry.settled()
    await ferry.done('verify', '--accept-losses', ferry.target)
    await ferry.eventually('the volume to be drained', async () =>
      NAMES.every((name) => !existsSync(ferry.under(name))),
    )
    for (const name of NAMES) expect((await ferry.readAnew(name)).toString()).toBe(`content of ${name}`)
  })
})
