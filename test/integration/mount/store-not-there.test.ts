import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// The disk of the embedded store is not mounted, as at a boot in which it comes late: its mount point is empty.

describeMounted('an embedded store that is not there', () => {
  let ferry: Ferry
  let disk: string
  let away: string

  beforeEach(async () => {
    ferry = new Ferry()
    disk = join(ferry.root, 'disk')
    away = join(ferry.root, 'away')
    writeFileSync(ferry.under('file'), 'content')
    mkdirSync(disk)
    await ferry.mount('--mode', 'drain', '--store', `embedded:${disk}/store`)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    renameSync(disk, away)
    mkdirSync(disk)
  })

  afterEach(() => ferry.clear())

  test('P2: is not made anew: the mount is refused in one line, and goes on once the store is there', async () => {
    for (const words of [
      ['mount', ferry.target],
      [
        'mount',
        ferry.source,
        ferry.target,
        '--state-dir',
        ferry.stateDir,
        '--store',
        `embedded:${disk}/store`,
      ],
    ]) {
      const { status, stderr } = await ferry.ferryfs(...words)
      expect([status, stderr]).toEqual([
        4,
        expect.stringMatching(
          /^ferryfs: there is no embedded store in [^\n]+ is its disk mounted\?[^\n]+\n$/,
        ),
      ])
      expect(existsSync(join(disk, 'store'))).toBe(false)
    }
    renameSync(disk, join(ferry.root, 'mount-point'))
    renameSync(away, disk)
    await ferry.mount('--store', `embedded:${disk}/store`)
    expect(readFileSync(join(ferry.target, 'file'), 'utf8')).toBe('content')
    await ferry.done('verify', ferry.target)
  })

  test('P2: is made anew by --take-over, and what it has lost is told of', async () => {
    await ferry.mount('--store', `embedded:${disk}/store`, '--take-over')
    const reasons = (await ferry.status()).failures.map(({ reason }) => reason)
    expect(reasons).toContainEqual(expect.stringMatching(/has no namespace .* which it had acknowledged/))
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
  })
})
