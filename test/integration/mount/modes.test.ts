import { readdirSync, statSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { MODES } from '../../../src/base/modes.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'

const [O_RDWR, O_CREAT, O_APPEND, O_WRONLY] = [2, 0o100, 0o2000, 1]
const MiB = 1 << 20

describeMounted('modes on the embedded store', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test('P5: what mirror and prefer-store did is on the legacy volume after unmount, bytes and attributes', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.call.mkdir(ferry.at('one'))
    await workThrough(ferry, ferry.at('one'))
    await ferry.mode('prefer-store')
    await ferry.call.mkdir(ferry.at('two'))
    await workThrough(ferry, ferry.at('two'))
    const seen = await ferry.call.snapshot(ferry.target)
    await ferry.unmount()
    expect(compareTrees(seen, await ferry.call.snapshot(ferry.source))).toEqual([])
  })

  test('P3: drain and store-only write nothing to the legacy volume', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.call.writeFile(ferry.at('new'), 'to the store')
    await ferry.call.mkdir(ferry.at('directory'))
    await ferry.settled()
    await ferry.mode('store-only')
    await ferry.call.writeFile(ferry.at('directory/newer'), 'to the store as well')
    await ferry.settled()
    expect(readdirSync(ferry.source, { recursive: true })).toEqual([])
    await ferry.remount()
    expect((await ferry.call.readFile(ferry.at('new'))).toString()).toBe('to the store')
    expect((await ferry.call.readFile(ferry.at('directory/newer'))).toString()).toBe('to the store as well')
  })

  test('P1: names are bytes', async () => {
    const latin1 = Buffer.from([0xe9, 0x74, 0xe9])
    const inSource = Buffer.concat([Buffer.from(`${ferry.source}/`), latin1])
    await writeFile(inSource, 'été')
    await ferry.mount('--mode', 'drain')
    const inTarget = Buffer.concat([Buffer.from(`${ferry.target}/`), latin1])
    expect((await ferry.call.readFile(inTarget)).toString()).toBe('été')
    await ferry.done('migrate', ferry.target, '--wait')
    expect(() => statSync(inSource)).toThrow('ENOENT')
    await ferry.remount()
    expect((await ferry.call.readFile(inTarget)).toString()).toBe('été')
  })
})

describeMounted.each(MODES)('the mode %s on the embedded store', (mode) => {
  let ferry: Ferry

  beforeAll(async () => {
    ferry = new Ferry()
    await ferry.mount('--mode', mode)
    await ferry.call.chmod(ferry.target, 0o777)
  })

  afterAll(async () => {
    await ferry.clear()
  })

  test('P1: files, directories and links made, changed, moved and removed are what a plain directory has', async () => {
    const reference = `${ferry.root}/reference`
    await mkdir(reference)
    const tested = ferry.at('tree')
    await ferry.call.mkdir(tested)
    for (const root of [reference, tested]) await workThrough(ferry, root)
    const expected = await ferry.call.snapshot(reference)
    expect(compareTrees(expected, await ferry.call.snapshot(tested), untouchedTimes)).toEqual([])
    // Again by what the daemon alone knows, with no page of the kernel's left.
    await ferry.remount()
    expect(compareTrees(expected, await ferry.call.snapshot(tested), untouchedTimes)).toEqual([])
  })

  test('P1: a new file, directory and link belong to the caller', async () => {
    const alice = ferry.as({ uid: 4101, gid: 4201, groups: [4301] }).call
    await alice.writeFile(ferry.at('file'), 'mine')
    await alice.mkdir(ferry.at('directory'))
    await alice.symlink('file', ferry.at('link'))
    for (const name of ['file', 'directory', 'link'])
      expect(await ferry.call.lstat(ferry.at(name))).toMatchObject({ uid: 4101, gid: 4201 })
    await ferry.call.mkdir(ferry.at('theirs'))
    await ferry.call.chown(ferry.at('theirs'), 0, 4301)
    await ferry.call.chmod(ferry.at('theirs'), 0o2775)
    await alice.writeFile(ferry.at('theirs/shared'), 'ours')
    expect(await ferry.call.stat(ferry.at('theirs/shared'))).toMatchObject({ uid: 4101, gid: 4301 })
    await expect(alice.writeFile(ferry.at('theirs/../../forbidden'), '')).rejects.toThrow('EACCES')
  })

  test('P1: a directory of many files is listed in full, once each, also while it changes', async () => {
    // More than two replies of the kernel's own size where a directory has an authority of either kind.
    const many = mode === 'mirror' || mode === 'drain' ? 800 : 300
    await ferry.call.mkdir(ferry.at('large'))
    await ferry.call.createFiles(ferry.at('large'), 'file-', 0, many)
    const names = await ferry.call.names(ferry.at('large'))
    expect(new Set(names).size).toBe(many)
    expect(names).toHaveLength(many)
    expect(await ferry.call.removeWhileListing(ferry.at('large'), 4096)).toBe(many)
    expect(await ferry.call.names(ferry.at('large'))).toEqual([])
    await ferry.call.rmdir(ferry.at('large'))
  })

  test('P1: statfs answers as a volume that can be written does', async () => {
    const volume = await ferry.call.statvfs(ferry.target)
    expect(volume.blocks).toBeGreaterThan(0)
    expect(volume.bavail).toBeGreaterThan(0)
    expect(volume.namemax).toBe(255)
  })
})

/** What stands still between a change and the comparison: times that a test set, to the nanosecond. */
const untouchedTimes = ({ mtimeNs }: { mtimeNs: bigint }): string =>
  mtimeNs < 1_500_000_000_000_000_000n ? String(mtimeNs) : 'now'

/** One of each of what the promise names, the same in every directory. */
async function workThrough({ call }: Ferry, root: string): Promise<void> {
  await call.mkdir(`${root}/directory`)
  await call.mkdir(`${root}/directory/deep`)
  await call.writeFile(`${root}/directory/small`, 'a small file')
  await call.writeFile(`${root}/large`, pattern(3 * MiB + 77, 1))
  await call.writeFile(`${root}/empty`, '')
  // Write at any offset: inside, across a chunk's edge, past the end.
  const fd = await call.open(`${root}/large`, O_RDWR)
  await call.write(fd, pattern(10_000, 2), MiB - 5000)
  await call.write(fd, pattern(333, 3), 12_345)
  await call.write(fd, pattern(5, 4), 5 * MiB + 1)
  expect((await call.read(fd, 100, 4 * MiB)).every((byte) => byte === 0)).toBe(true)
  await call.fsync(fd)
  await call.close(fd)
  const log = await call.open(`${root}/directory/log`, O_WRONLY | O_CREAT | O_APPEND)
  for (let line = 0; line < 20; line += 1) await call.write(log, `line ${line}\n`)
  await call.close(log)
  await call.writeFile(`${root}/shorter`, pattern(2 * MiB, 5))
  await call.truncate(`${root}/shorter`, MiB + 1)
  await call.truncate(`${root}/empty`, 4097)
  await call.symlink('directory/small', `${root}/symlink`)
  await call.link(`${root}/directory/small`, `${root}/hard link`)
  await call.writeFile(`${root}/to move`, 'moved')
  await call.rename(`${root}/to move`, `${root}/directory/deep/moved`)
  await call.rename(`${root}/directory`, `${root}/renamed directory`)
  await call.writeFile(`${root}/replaced`, 'old')
  await call.writeFile(`${root}/replacing`, 'new')
  await call.rename(`${root}/replacing`, `${root}/replaced`)
  await call.mkdir(`${root}/to remove`)
  await call.writeFile(`${root}/to remove/file`, 'gone')
  await call.unlink(`${root}/to remove/file`)
  await call.rmdir(`${root}/to remove`)
  await call.chmod(`${root}/shorter`, 0o4751)
  await call.chown(`${root}/large`, 4101, 4201)
  await call.chmod(`${root}/large`, 0o640)
  await call.utimens(`${root}/large`, 1_234_567_890_123_456_789n, 987_654_321_987_654_321n)
  await call.lutimens(`${root}/symlink`, 1n, 1_111_111_111_111_111_111n)
  await call.utimens(`${root}/renamed directory`, 3n, 5_000_000_007n)
}
