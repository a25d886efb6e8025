import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// SOURCE says no more whose it is, and somebody goes on with it by itself: `forget`, a new file system, a copy of what is left.
describeMounted('a drained volume that has lost its mark', () => {
  let ferry: Ferry

  beforeEach(async () => {
    ferry = new Ferry()
    writeFileSync(ferry.under('f1'), 'as it was drained')
    await ferry.mount('--mode', 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.eventually('an empty volume', async () => !existsSync(ferry.under('f1')))
    await ferry.unmount()
  })

  afterEach(() => ferry.clear())

  const seen = (): string => readFileSync(join(ferry.target, 'f1'), 'utf8')

  test('P1, P5: is not mounted by who would hide what was put there since, as often as it is tried', async () => {
    await ferry.done('forget', ferry.source)
    writeFileSync(ferry.under('f1'), 'written anew')
    for (let nth = 0; nth < 3; nth += 1) {
      const { status, stderr } = await ferry.tryMount()
      expect(status).toBe(2)
      expect(stderr).toMatch(/^ferryfs: SOURCE [^\n]+ has lost the mark that the state directory [^\n]+\n$/)
    }
    await ferry.done('mount', ferry.source, ferry.target, '--state-dir', join(ferry.root, 'new'))
    expect(seen()).toBe('written anew')
  })

  test('P2, P5: is told of as a loss where it is mounted all the same, and loses nothing', async () => {
    await ferry.done('forget', ferry.source)
    writeFileSync(ferry.under('f1'), 'written anew')
    await ferry.mount('--take-over')
    expect(seen()).toBe('as it was drained')
    const reasons = (await ferry.status()).failures.map(({ reason }) => reason)
    expect(reasons).toContainEqual(expect.stringMatching(/had lost its mark/))
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
    // What is hidden is listed for as long as it is there.
    const accepted = await ferry.ferryfs('verify', '--accept-losses', ferry.target)
    expect([accepted.status, accepted.stdout]).toEqual([
      3,
      expect.stringMatching(/'f1' in it: SOURCE has something else under this name/),
    ])
    expect(accepted.stdout).not.toMatch(/had lost its mark/)
    await ferry.ferryfs('migrate', ferry.target, '--wait')
    await ferry.unmount()
    expect(readFileSync(ferry.under('f1'), 'utf8')).toBe('written anew')
    await ferry.mount()
    expect(seen()).toBe('as it was drained')
  })

  test('P5: what forget prints makes the mount again', async () => {
    const told = await ferry.done('forget', ferry.target)
    expect(told).toMatch(/"ferryfs mount [^"]*--take-over[^"]*" makes it again/)
    await ferry.mount('--take-over')
    expect(seen()).toBe('as it was drained')
  })
})
