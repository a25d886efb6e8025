import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted, kernelIsAtLeast } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { onSmallDisk } from '../../support/mount/small-disk.ts'

// More than the room that SQLite has left in its log has rows for.
const FILES = 3000
const EVERY = 30

describeMounted('a full disk with the state directory on it, SOURCE elsewhere', () => {
  let ferry: Ferry
  let disk: string

  beforeEach(() => {
    ferry = new Ferry({ surroundings: onSmallDisk('disk', 'size=24m,mode=700', { stateDir: 'state' }) })
    disk = join(ferry.root, 'disk')
    mkdirSync(ferry.under('d'))
    for (let nth = 0; nth < FILES; nth += 1) writeFileSync(ferry.under(`d/f${nth}`), contentOf(nth))
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const contentOf = (nth: number): Buffer => pattern(50 + (nth % 100), nth)

  function fill(): void {
    for (const bytes of [65536, 4096]) {
      for (;;) {
        try {
          writeFileSync(join(disk, 'filler'), Buffer.alloc(bytes), { flag: 'a' })
        } catch (error) {
          expect(error).toMatchObject({ code: 'ENOSPC' })
          break
        }
      }
    }
    expect(statfsSync(disk).bavail).toBe(0)
  }

  function read(descriptor: number): Buffer {
    const buffer = Buffer.alloc(4096)
    return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, 0))
  }

  test.skipIf(!kernelIsAtLeast(6, 9))(
    'P7: what applications have open of files that were met without room outlives workers',
    async () => {
      await ferry.mount('--mode', 'observe', '--store', `embedded:${ferry.root}/store`)
      fill()
      const open = new Map<number, number>()
      for (let nth = 0; nth < FILES; nth += 1) {
        const descriptor = openSync(ferry.at(`d/f${nth}`), 'r')
        if (nth % EVERY === 0) open.set(nth, descriptor)
        else closeSync(descriptor)
      }
      const numbers = new Map([...open].map(([nth, descriptor]) => [nth, fstatSync(descriptor).ino]))
      for (let kill = 0; kill < 2; kill += 1) {
        await ferry.killWorker()
        for (const [nth, descriptor] of open) {
          expect(read(descriptor).equals(contentOf(nth))).toBe(true)
          expect(fstatSync(descriptor).ino).toBe(numbers.get(nth))
          expect((await ferry.readAnew(`d/f${nth}`)).equals(contentOf(nth))).toBe(true)
        }
      }
      rmSync(join(disk, 'filler'))
      await ferry.eventually(
        'rows for all of them',
        async () => (await ferry.status()).files.total >= open.size,
      )
      await ferry.killWorker()
      for (const [nth, descriptor] of open) {
        expect(read(descriptor).equals(contentOf(nth))).toBe(true)
        closeSync(descriptor)
      }
    },
  )
})
