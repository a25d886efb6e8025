import { expect, test } from 'vitest'
import { FileSystems } from '../../../src/legacy/file-systems.ts'
import type { Stat } from '../../../src/sys/index.ts'
import { MadeMounts } from '../../support/volume/known-mounts.ts'

const SOURCE = 100n
const place = (name: string) => ({ parent: 1n, name: Buffer.from(name) })

function statOf(dev: bigint, ino: bigint, btimeNs: bigint, isMountRoot = true): Stat {
  const times = { atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n, btimeNs }
  const numbers = { mode: 0o40755, nlink: 1, uid: 0, gid: 0, rdev: 0, size: 0, blocks: 0, blksize: 4096 }
  return { ...times, ...numbers, dev, ino, isMountRoot, flags: 0 }
}

const onSource = statOf(SOURCE, 1n, 1n)
const booted = (mounts: MadeMounts): FileSystems => new FileSystems(onSource, mounts)

/** Disks as they are found at one boot: by place, device number and birth of the root. */
function found(mounts: MadeMounts, ...disks: ReadonlyArray<readonly [string, bigint, bigint]>): bigint[] {
  const fileSystems = booted(mounts)
  return disks.map(([name, dev, birth]) => {
    const root = statOf(dev, 2n, birth)
    fileSystems.seen(place(name), root)
    return fileSystems.deviceOf(root)
  })
}

test('P1: two disks that change their device numbers at a boot are what they were', () => {
  const mounts = new MadeMounts()
  const before = found(mounts, ['a', 17n, 5n], ['b', 33n, 6n])
  expect(before).toEqual([17n, 33n])
  expect(found(mounts, ['a', 33n, 5n], ['b', 17n, 6n])).toEqual(before)
  expect(found(mounts, ['b', 33n, 6n], ['a', 49n, 5n])).toEqual(before.reverse())
})

test('P1: another disk at the place, with the device number of the one of before, is another one', () => {
  const mounts = new MadeMounts()
  const [first] = found(mounts, ['a', 17n, 5n])
  const [other] = found(mounts, ['a', 17n, 7n])
  expect(other).not.toBe(first)
  const [again] = found(mounts, ['a', 33n, 7n])
  expect(again).toBe(other)
})

test('P1: without times of birth a disk is the one of before as long as its device number is', () => {
  const mounts = new MadeMounts()
  expect(found(mounts, ['a', 17n, 0n])).toEqual([17n])
  expect(found(mounts, ['a', 17n, 0n])).toEqual([17n])
  expect(found(mounts, ['a', 18n, 0n])).toEqual([18n])
  expect(found(mounts, ['b', 17n, 0n])).toEqual([17n])
})

test('P1: a disk that is mounted in two places has one number, and SOURCE in itself that of SOURCE', () => {
  const mounts = new MadeMounts()
  expect(found(mounts, ['a', 17n, 5n], ['b', 17n, 8n], ['c', SOURCE, 9n])).toEqual([17n, 17n, 0n])
  const fileSystems = booted(mounts)
  expect(['a', 'b', 'c', 'd'].filter((name) => fileSystems.wasMounted(place(name)))).toEqual(['a', 'b', 'c'])
})

test('P6: files that are not where something is mounted ask nothing of the catalog', () => {
  const mounts = new MadeMounts()
  const fileSystems = booted(mounts)
  fileSystems.seen(place('a'), statOf(17n, 2n, 5n))
  mounts.at = () => expect.unreachable()
  fileSystems.seen(place('f'), statOf(17n, 12n, 5n, false))
  fileSystems.seen(place('g'), statOf(SOURCE, 12n, 5n, false))
  expect(fileSystems.deviceOf(statOf(17n, 12n, 5n, false))).toBe(17n)
})
