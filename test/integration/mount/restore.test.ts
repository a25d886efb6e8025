import { execFileSync, spawn } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'
import { WeakVolume } from '../../support/volume/weak-volume.ts'

const MiB = 1024 * 1024
const POOR = fileURLToPath(new URL('../../support/restore/poor-server.ts', import.meta.url))

describeMounted('restore', () => {
  let ferry: Ferry
  let disk: string
  const mounts: string[] = []

  beforeEach(() => {
    ferry = new Ferry()
    disk = join(ferry.root, 'disk')
    mkdirSync(disk)
  })

  afterEach(async () => {
    for (const point of mounts.splice(0)) execFileSync('umount', ['-l', point])
    await ferry.clear()
  })

  const restore = (...more: string[]) => ferry.ferryfs('restore', ferry.target, ...more)

  async function drained(): Promise<void> {
    await ferry.mount('--mode', 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
  }

  async function expectSame(dest: string): Promise<void> {
    const [before, after] = [await ferry.call.snapshot(ferry.target), await ferry.call.snapshot(dest)]
    expect(compareTrees(before, after)).toEqual([])
  }

  function mountTmpfs(size: string): void {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', disk])
    mounts.push(disk)
  }

  function mountImage(bytes: number, make: string, ...options: string[]): void {
    const image = join(ferry.root, 'image')
    writeFileSync(image, '')
    truncateSync(image, bytes)
    execFileSync(make, [...options, image], { stdio: 'ignore' })
    execFileSync('mount', ['-o', 'loop', image, disk])
    mounts.push(disk)
  }

  describe('P1 P5: onto a disk that is full', () => {
    beforeEach(async () => {
      for (let n = 0; n < 4; n += 1) writeFileSync(ferry.under(`file-${n}`), pattern(900_000, n))
      await drained()
    })

    test('tmpfs: the file is named, nothing is half there, and with room it goes on', async () => {
      mountTmpfs('2500k')
      const dest = join(disk, 'back')
      const { status, stderr } = await restore(dest)
      expect(status).toBe(1)
      expect(stderr).toMatch(
        /^ferryfs: file-\d: no room is left on DEST .*; what is written stays: mend that, and run/m,
      )
      for (const name of readdirSync(dest).filter((name) => name.startsWith('file')))
        expect(statSync(join(dest, name)).size).toBe(900_000)
      execFileSync('mount', ['-o', 'remount,size=20M', disk])
      expect((await restore(dest)).status).toBe(0)
      await expectSame(dest)
    })

    test('ext4: the same, where what is written is allocated later', async () => {
      mountImage(8 * MiB, 'mkfs.ext4', '-q', '-m', '0')
      const fill = join(disk, 'fill')
      writeFileSync(fill, Buffer.alloc(4 * MiB, 1))
      execFileSync('sync', ['-f', disk])
      const dest = join(disk, 'back')
      const { status, stderr } = await restore(dest)
      expect(status).toBe(1)
      expect(stderr).toMatch(/^ferryfs: file-\d: no room is left on DEST/m)
      rmSync(fill)
      expect((await restore(dest)).status).toBe(0)
      await expectSame(dest)
    })
  })

  test('P5: a new volume with its lost+found is as good as an empty directory', async () => {
    mkdirSync(ferry.under('a'))
    writeFileSync(ferry.under('a/file'), 'content')
    await drained()
    mountImage(8 * MiB, 'mkfs.ext4', '-q')
    expect((await restore(disk)).status).toBe(0)
    expect(readdirSync(disk).sort()).toEqual(['a', 'lost+found'])
  })

  test('P5: what DEST cannot hold of a file is told of by its name, and all else of it is there', async () => {
    writeFileSync(ferry.under('plain'), pattern(5000, 1))
    await ferry.call.utimens(ferry.under('plain'), 0n, 1_000_000_001_000_000_001n)
    await ferry.call.chown(ferry.under('plain'), 7, 8)
    await ferry.call.link(ferry.under('plain'), ferry.under('second'))
    writeFileSync(ferry.under('attributes'), 'x')
    await ferry.call.setxattr(ferry.under('attributes'), 'user.colour', 'blue')
    await ferry.call.symlink('plain', ferry.under('link'))
    for (const name of ['UPPER', 'upper', 'with: colon', 'long'.repeat(20)])
      writeFileSync(ferry.under(name), name)
    writeFileSync(ferry.under('rotten'), 'this rots')
    writeFileSync(ferry.under('too large'), '')
    truncateSync(ferry.under('too large'), 2 ** 33)
    await drained()
    const behind = join(ferry.root, 'behind')
    mkdirSync(behind)
    const volume = new WeakVolume(behind, disk, POOR)
    await volume.start()
    mounts.push(disk)
    const dest = join(disk, 'back')
    const { status, stdout } = await restore(dest)
    expect(status, stdout).toBe(3)
    expect(stdout).toMatch(
      /^lacking {2}attributes: extended attribute user\.colour: DEST has nothing like it/m,
    )
    expect(stdout).toMatch(
      /^lacking {2}plain: .*owner: DEST keeps 0:0 instead of 7:8; mtime: DEST keeps @1000000000\.0/m,
    )
    expect(stdout).toMatch(/^lacking {2}(plain|second): .*it has other names, and DEST has no hard links/m)
    expect(stdout).toMatch(/^missing {2}link: DEST does not permit it/m)
    expect(stdout).toMatch(/^missing {2}(UPPER|upper): .*DEST takes it for another name/m)
    expect(stdout).toMatch(/^missing {2}with: colon: DEST does not take it/m)
    expect(stdout).toMatch(/^missing {2}longlong\S+: its name is too long for DEST/m)
    expect(stdout).toMatch(/^missing {2}too large: it is too large for DEST/m)
    expect(stdout).toMatch(/^missing {2}rotten: what was written from offset 0 on reads back otherwise/m)
    for (const name of ['plain', 'second'])
      expect((await ferry.call.readFile(join(dest, name))).equals(pattern(5000, 1))).toBe(true)
    const names = (await ferry.call.names(dest)).map(String).sort()
    const one = names.find((name) => name.toLowerCase() === 'upper') ?? 'neither'
    expect(names).toEqual(['.ferryfs-restore', 'attributes', 'plain', 'second', one].sort())
    // The one of the two names that came first is not overwritten by the other, in any run.
    for (const run of ['this', 'the next']) {
      expect((await ferry.call.readFile(join(dest, one))).toString(), run).toBe(one)
      expect((await restore(dest)).status).toBe(3)
    }
    await volume.remove()
    mounts.pop()
  })

  test('P5: an extended attribute that does not fit in DEST, a time out of its range, a file too large for it', async () => {
    for (const name of ['attributes', 'late', 'huge']) writeFileSync(ferry.under(name), name)
    await drained()
    const big = Buffer.alloc(30_000, 'v')
    await ferry.call.setxattr(ferry.at('attributes'), 'user.big', big.toString())
    await ferry.call.setxattr(ferry.at('attributes'), 'user.small', 'v')
    await ferry.call.utimens(ferry.at('late'), 0n, 5_000_000_000_000_000_000n)
    await ferry.call.truncate(ferry.at('huge'), 8 * 2 ** 40)
    await ferry.settled()
    mountImage(40 * MiB, 'mkfs.ext4', '-q', '-I', '128', '-b', '1024')
    const dest = join(disk, 'back')
    const { status, stdout } = await restore(dest)
    expect(status, stdout).toBe(3)
    expect(stdout).toMatch(/^lacking {2}attributes: extended attribute user\.big: /m)
    expect(stdout).toMatch(/^lacking {2}late: .*mtime: DEST keeps @2147483647/m)
    expect(stdout).toMatch(/^missing {2}huge: it is too large for DEST/m)
    expect(await ferry.call.getxattr(join(dest, 'attributes'), 'user.small')).toEqual(Buffer.from('v'))
    expect((await ferry.call.readFile(join(dest, 'late'))).toString()).toBe('late')
  })

  test('P5: a part of the tree, and then the rest of what is asked for', async () => {
    mkdirSync(ferry.under('a/b'), { recursive: true })
    for (const name of ['a/one', 'a/b/two', 'three']) writeFileSync(ferry.under(name), name)
    await ferry.call.chmod(ferry.under('a'), 0o2710)
    await drained()
    const dest = join(ferry.root, 'part')
    expect((await restore(dest, 'a/b', '/three', 'no/such')).status).toBe(3)
    expect((await restore(dest, 'a/b', 'three')).status).toBe(0)
    expect(readdirSync(dest, { recursive: true }).map(String).sort()).toEqual([
      'a',
      'a/b',
      'a/b/two',
      'three',
    ])
    expect(statSync(join(dest, 'a')).mode & 0o7777).toBe(0o2710)
    await ferry.call.symlink('a/b', ferry.at('link'))
    const { status, stdout } = await restore(join(ferry.root, 'through'), 'link/two')
    expect(status).toBe(3)
    expect(stdout).toMatch(
      /^missing +link\/two: link is a symlink, to a\/b; give PATHs as names of the tree/m,
    )
    expect(readdirSync(join(ferry.root, 'through'))).toEqual(['.ferryfs-restore'])
    const refused = await restore(join(ferry.root, 'other'), 'a/../three')
    expect(refused.status).toBe(2)
    expect(refused.stderr).toContain('PATH a/../three: its name is one that every directory has')
  })

  test('P1: DEST in the mount, in the source, below /proc, and by a bind mount of the source is refused', async () => {
    writeFileSync(ferry.under('file'), 'x')
    mkdirSync(ferry.under('sub'))
    await ferry.mount()
    execFileSync('mount', ['--bind', ferry.under('sub'), disk])
    mounts.push(disk)
    for (const dest of [
      ferry.at('sub'),
      ferry.under('sub'),
      '/proc/self',
      '/sys/fs',
      disk,
      join(disk, 'below'),
      '/',
    ]) {
      const { status, stderr } = await restore(dest)
      expect(status, `${dest}: ${stderr}`).toBe(2)
    }
    expect(readdirSync(ferry.under('sub'))).toEqual([])
  })

  test('P1: a DEST that is a symlink, or lies behind one that somebody else made, is refused in one line', async () => {
    writeFileSync(ferry.under('file'), 'x')
    await ferry.mount('--mode', 'drain')
    const [home, own] = ['home', 'own'].map((name) => join(ferry.root, name)) as [string, string]
    for (const directory of [home, own]) mkdirSync(directory)
    symlinkSync(disk, join(own, 'link'))
    symlinkSync(disk, join(home, 'link'))
    chownSync(home, 12345, 12345)
    for (const dest of [join(own, 'link'), join(home, 'link'), join(home, 'link/new')]) {
      const { status, stderr } = await restore(dest)
      expect(status).toBe(2)
      expect(stderr).toMatch(
        /^ferryfs: DEST \S+: \S+ is a symlink .*; give the directory by a path without it\n$/,
      )
    }
    expect(readdirSync(disk)).toEqual([])
    expect((await restore(join(own, 'link/new'))).status).toBe(0)
    await expectSame(join(disk, 'new'))
  })

  test('P1: who owns a directory of the tree cannot get into it before DEST is done', async () => {
    mkdirSync(ferry.under('user'))
    for (let n = 0; n < 60; n += 1) writeFileSync(ferry.under(`user/f${n}`), `${n}`)
    await ferry.call.chown(ferry.under('user'), 12_345, 12_345)
    await ferry.call.chmod(ferry.under('user'), 0o4777)
    await ferry.call.chmod(ferry.source, 0o755)
    await drained()
    const dest = join(ferry.root, 'back')
    mkdirSync(dest, { mode: 0o777 })
    await ferry.call.chmod(dest, 0o777)
    const victim = join(ferry.root, 'victim')
    writeFileSync(victim, '', { mode: 0o600 })
    const user = ferry.as({ uid: 12_345, gid: 12_345, groups: [] })
    let isOver = false
    const attack = (async () => {
      // As the owner of the directory, as soon as anything of it can be reached.
      while (!isOver) {
        const swapped = await user.call.rename(join(dest, 'user'), join(dest, 'mine')).then(
          () => true,
          () => false,
        )
        if (swapped) await user.call.symlink(victim, join(dest, 'user'))
      }
    })()
    const { status, stdout, stderr } = await restore(dest)
    isOver = true
    await attack
    expect(status, stdout + stderr).toBe(0)
    expect(statSync(victim)).toMatchObject({ uid: 0, gid: 0 })
    expect(statSync(victim).mode & 0o7777).toBe(0o600)
    await expectSame(dest)
  })

  test('P6: a frozen DEST stalls the restore and nothing else', async () => {
    for (let n = 0; n < 40; n += 1) writeFileSync(ferry.under(`file-${n}`), pattern(200_000, n))
    await drained()
    mountImage(64 * MiB, 'mkfs.ext4', '-q')
    const dest = join(disk, 'back')
    mkdirSync(dest)
    execFileSync('fsfreeze', ['-f', disk])
    const [command, line] = ferry.line('restore', ferry.target, dest)
    const stuck = spawn(command, line, { env: ferry.environment, cwd: ferry.root, stdio: 'ignore' })
    ferry.watch(stuck)
    const ended = new Promise<number | null>((resolve) => stuck.once('exit', resolve))
    try {
      const { workerStarts } = await ferry.status()
      for (let n = 0; n < 40; n += 1)
        expect((await ferry.call.readFile(ferry.at(`file-${n}`))).equals(pattern(200_000, n))).toBe(true)
      expect((await ferry.status()).workerStarts).toBe(workerStarts)
      expect(existsSync(join(dest, 'file-0'))).toBe(false)
    } finally {
      execFileSync('fsfreeze', ['-u', disk])
    }
    expect(await ended).toBe(0)
    await expectSame(dest)
  })

  test('P7: a worker that is killed under a restore is not noticed by it', async () => {
    for (let n = 0; n < 150; n += 1) writeFileSync(ferry.under(`file-${n}`), pattern(20_000, n))
    await drained()
    const dest = join(ferry.root, 'back')
    const restored = restore(dest)
    await ferry.eventually('the first files', async () => existsSync(dest) && readdirSync(dest).length > 5)
    await ferry.killWorker()
    const { status, stdout, stderr } = await restored
    expect(status, stdout + stderr).toBe(0)
    await expectSame(dest)
  })
})
