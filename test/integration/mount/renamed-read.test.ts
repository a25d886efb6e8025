import {
  appendFileSync,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const SIZE = 75_787
const FROM = 37_599
// One in forty failed before, on a busy machine one in seven.
const ROUNDS = 100

describeMounted('files that were just renamed', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test.each(['observe', 'mirror', 'prefer-store', 'drain'])(
    'P1: are read to their end in %s',
    async (mode) => {
      await ferry.mount('--mode', mode)
      for (let round = 0; round < ROUNDS; round += 1) {
        const directory = ferry.at(`d${round}`)
        mkdirSync(directory)
        const replaced = openSync(`${directory}/1`, 'wx+')
        writeSync(replaced, Buffer.alloc(60_000, 'z'))
        const made = openSync(`${directory}/2`, 'wx+')
        writeSync(made, Buffer.alloc(68_278, 'x'), 0, 68_278, 94_720)
        readSync(made, Buffer.alloc(40_000), 0, 40_000, 100_000)
        truncateSync(`${directory}/2`, SIZE)
        readSync(made, Buffer.alloc(100_000), 0, 100_000, 20_000)
        appendFileSync(`${directory}/1`, Buffer.alloc(20_000, 'w'))
        readSync(replaced, Buffer.alloc(30_000), 0, 30_000, 50_000)
        closeSync(made)
        const descriptor = openSync(`${directory}/2`, constants.O_RDWR)
        readSync(descriptor, Buffer.alloc(10_000), 0, 10_000, 70_000)
        renameSync(`${directory}/2`, `${directory}/1`)
        expect(fstatSync(descriptor).size).toBe(SIZE)
        expect(readSync(descriptor, Buffer.alloc(51_586), 0, 51_586, FROM)).toBe(SIZE - FROM)
        closeSync(replaced)
        closeSync(descriptor)
      }
    },
  )
})
