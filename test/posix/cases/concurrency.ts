import { expect } from 'vitest'
import { SyscallError } from '../../support/posix/libc.ts'
import { type PosixCase, refused } from '../case.ts'

export const concurrency: readonly PosixCase[] = [
  {
    name: 'processes that write to one file side by side do not touch each other',
    async run(c) {
      // Blocks that are no multiple of a page, so that neighbours share pages.
      const [blocks, size] = [400, 3000]
      await c.me.writeFile(`${c.dir}/file`, Buffer.alloc(blocks * size))
      await Promise.all(
        c.workers.map((worker, index) => worker.writeStripes(`${c.dir}/file`, index, 4, blocks, size)),
      )
      const content = await c.me.readFile(`${c.dir}/file`)
      const expected = Buffer.concat(
        Array.from({ length: blocks }, (_, n) => Buffer.alloc(size, (n % 4) + 1)),
      )
      expect(content.equals(expected)).toBe(true)
    },
  },
  {
    name: 'processes that fill one directory side by side lose no file',
    async run(c) {
      await Promise.all(c.workers.map((worker, index) => worker.createFiles(c.dir, `w${index}-`, 0, 200)))
      expect(await c.me.names(c.dir)).toHaveLength(800)
      const names = (await c.me.list(c.dir)).map(({ name }) => name)
      await Promise.all(
        c.workers.map((worker, index) =>
          worker.unlinkFiles(
            c.dir,
            names.filter((_, n) => n % 4 === index),
          ),
        ),
      )
      expect(await c.second.names(c.dir)).toEqual([])
    },
  },
  {
    name: 'of several mkdir, rename and link to one name exactly one succeeds',
    async run(c) {
      for (let round = 0; round < 30; round++) {
        const target = `${c.dir}/target`
        for (const [index, worker] of c.workers.entries())
          await worker.writeFile(`${c.dir}/${index}`, `${index}`)
        const outcomes = await Promise.allSettled(
          c.workers.map((worker, index) =>
            index % 2 === 0 ? worker.mkdir(target) : worker.link(`${c.dir}/${index}`, target),
          ),
        )
        expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
        for (const outcome of outcomes) {
          if (outcome.status === 'fulfilled') continue
          expect(outcome.reason).toBeInstanceOf(SyscallError)
          expect(outcome.reason).toMatchObject({ code: 'EEXIST' })
        }
        await (outcomes.findIndex(({ status }) => status === 'fulfilled') % 2 === 0
          ? c.me.rmdir(target)
          : c.me.unlink(target))
      }
    },
  },
  {
    name: 'two directories moved into each other at once never make a loop',
    async run(c) {
      for (let round = 0; round < 40; round++) {
        await c.me.mkdir(`${c.dir}/a`)
        await c.me.mkdir(`${c.dir}/b`)
        const outcomes = await Promise.allSettled([
          c.second.rename(`${c.dir}/a`, `${c.dir}/b/a`),
          c.me.rename(`${c.dir}/b`, `${c.dir}/a/b`),
        ])
        expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(1)
        const [outer, inner] = (await c.me.names(c.dir))[0] === 'a' ? ['a', 'b'] : ['b', 'a']
        expect(await c.second.names(`${c.dir}/${outer}`)).toEqual([inner])
        await c.me.rmdir(`${c.dir}/${outer}/${inner}`)
        await c.me.rmdir(`${c.dir}/${outer}`)
      }
    },
  },
  {
    name: '65,000 links to one file, or EMLINK at the limit of the file system',
    async run(c) {
      if (process.env.FERRYFS_POSIX_LONG !== '1') c.skip('65,000 links take long: set FERRYFS_POSIX_LONG=1')
      await c.me.writeFile(`${c.dir}/file`, '')
      const made = await c.me.linkMany(`${c.dir}/file`, `${c.dir}/link-`, 65_100)
      expect((await c.second.stat(`${c.dir}/file`)).nlink).toBe(made + 1)
      if (made < 65_100) await refused('EMLINK', c.me.link(`${c.dir}/file`, `${c.dir}/one-more`))
    },
  },
]
