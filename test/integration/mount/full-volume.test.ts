import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { onSmallDisk } from '../../support/mount/small-disk.ts'

const MIB = 1024 * 1024
const FILES = 200

describeMounted('a full volume with the state directory on it', () => {
  let ferry: Ferry
  let volume: string

  beforeEach(() => {
    ferry = new Ferry({
      surroundings: onSmallDisk('volume', 'size=24m', { source: 'source', stateDir: 'state' }),
    })
    volume = join(ferry.root, 'volume')
    mkdirSync(ferry.under('d'))
    for (let nth = 0; nth < FILES; nth += 1) writeFileSync(ferry.under(`d/f${nth}`), contentOf(nth))
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const contentOf = (nth: number): Buffer => pattern(nth * 100, nth)

  function fill(name: string): void {
    const path = ferry.under(name)
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(4096), { flag: 'a' })
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' })
        return
      }
    }
  }

  async function expectAll(): Promise<void> {
    for (let nth = 0; nth < FILES; nth += 1)
      expect((await ferry.readAnew(`d/f${nth}`)).equals(contentOf(nth))).toBe(true)
  }

  const store = (): string[] => ['--store', `embedded:${ferry.root}/store`]

  test('P6: a mount says so; from 0 bytes free all is read, a worker may die, and the volume is drained', async () => {
    const { stdout } = await ferry.tryMount('--mode', 'mirror', ...store())
    expect(stdout).toMatch(/on SOURCE's own volume/)
    fill('filler')
    expect(statfsSync(volume).bavail).toBe(0)
    await expectAll()
    await ferry.killWorker()
    await expectAll()
    await ferry.unmount()
    fill('filler2')
    await ferry.mount('--mode', 'drain', ...store())
    await expectAll()
    await ferry.done('migrate', ferry.target, '--wait').catch(() => undefined)
    await ferry.until('the volume drained', ({ files }) => files.pending === 0 && files.drained >= FILES)
    await ferry.eventually('nothing left on the volume', async () => readdirSync(ferry.source).length === 0)
    await expectAll()
    expect(statfsSync(volume).bavail * statfsSync(volume).bsize).toBeGreaterThan(12 * MIB)
    writeFileSync(ferry.at('new'), 'new')
    expect(readFileSync(ferry.at('new'), 'utf8')).toBe('new')
  })

  test('P6: a mount that finds no room says how much it needs, and begins when there is as much', async () => {
    fill('filler')
    const refused = await ferry.tryMount(...store())
    expect(refused).toMatchObject({ status: 1 })
    expect(refused.stderr).toMatch(
      /on SOURCE's own volume, which has only .* free: make .* of room there, or give a --state-dir/,
    )
    expect(readdirSync(volume)).toEqual(['source'])
    truncateSync(ferry.under('filler'), 2 * MIB)
    await ferry.mount(...store())
    rmSync(ferry.under('filler'))
    await expectAll()
  })
})
