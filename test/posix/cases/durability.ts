import { expect } from 'vitest'
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO } from '../../support/posix/constants.ts'
import { type PosixCase, pattern, refused } from '../case.ts'

export const durability: readonly PosixCase[] = [
  {
    name: 'fsync and fdatasync succeed on files and directories, however opened',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, pattern(100_000))
      for (const flags of [O_RDONLY, O_WRONLY, O_RDWR]) {
        const fd = await c.me.open(`${c.dir}/file`, flags)
        if (flags !== O_RDONLY) await c.me.write(fd, 'changed', 0)
        await c.me.fsync(fd)
        await c.me.fdatasync(fd)
      }
      const directory = await c.me.open(c.dir, O_RDONLY)
      await c.me.fsync(directory)
      await c.me.fdatasync(directory)
      await c.me.syncfs(directory)
      expect((await c.second.readFile(`${c.dir}/file`)).subarray(0, 7).toString()).toBe('changed')
    },
  },
  {
    name: 'fsync succeeds on an unlinked file and fails where there is nothing to sync',
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
      await c.me.write(fd, 'content')
      await c.me.unlink(`${c.dir}/file`)
      await c.me.fsync(fd)
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o600)
      const fifo = await c.me.open(`${c.dir}/fifo`, O_RDWR)
      await refused('EINVAL', c.me.fsync(fifo))
      await c.me.close(fd)
      await refused('EBADF', c.me.fsync(fd))
    },
  },
  {
    name: 'synchronous writes (O_SYNC, O_DSYNC) are in the file when they return',
    async run(c) {
      const [O_DSYNC, O_SYNC] = [0o10000, 0o4010000]
      for (const [name, flag] of [
        ['dsync', O_DSYNC],
        ['sync', O_SYNC],
      ] as const) {
        const fd = await c.me.open(`${c.dir}/${name}`, O_CREAT | O_WRONLY | flag)
        for (let n = 0; n < 10; n++) await c.me.write(fd, pattern(5000, n), n * 5000)
        const content = await c.second.readFile(`${c.dir}/${name}`)
        expect(content.equals(Buffer.concat(Array.from({ length: 10 }, (_, n) => pattern(5000, n))))).toBe(
          true,
        )
      }
    },
  },
  {
    name: 'statfs tells of a volume with room and names of 255 bytes',
    async run(c) {
      const volume = await c.me.statvfs(c.dir)
      expect(volume.namemax).toBe(255)
      expect(volume.bsize).toBeGreaterThanOrEqual(512)
      expect(Math.log2(volume.frsize) % 1).toBe(0)
      expect(volume.blocks).toBeGreaterThanOrEqual(volume.bfree)
      expect(volume.bfree).toBeGreaterThanOrEqual(volume.bavail)
      expect(volume.bavail).toBeGreaterThan(0)
      expect(volume.files).toBeGreaterThanOrEqual(volume.ffree)
      await c.me.writeFile(`${c.dir}/file`, '')
      expect(await c.me.statvfs(`${c.dir}/file`), 'the same by a file').toMatchObject({
        namemax: volume.namemax,
        bsize: volume.bsize,
        blocks: volume.blocks,
      })
    },
  },
]
