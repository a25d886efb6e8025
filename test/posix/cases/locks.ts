import { expect } from 'vitest'
import {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
} from '../../support/posix/constants.ts'
import { type CaseContext, type PosixCase, refused } from '../case.ts'

async function openTwice(c: CaseContext): Promise<[number, number]> {
  const path = `${c.dir}/file`
  return [await c.me.open(path, O_CREAT | O_RDWR), await c.second.open(path, O_CREAT | O_RDWR)]
}

export const locks: readonly PosixCase[] = [
  {
    name: 'flock: one exclusive or many shared, between processes and descriptors',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      await c.me.flock(mine, LOCK_EX)
      await refused('EAGAIN', c.second.flock(theirs, LOCK_EX | LOCK_NB))
      await refused('EAGAIN', c.second.flock(theirs, LOCK_SH | LOCK_NB))
      const another = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await refused('EAGAIN', c.me.flock(another, LOCK_SH | LOCK_NB))
      await c.me.flock(mine, LOCK_SH)
      await c.second.flock(theirs, LOCK_SH | LOCK_NB)
      await c.me.flock(another, LOCK_SH | LOCK_NB)
      await refused('EAGAIN', c.me.flock(mine, LOCK_EX | LOCK_NB))
      await c.second.flock(theirs, LOCK_UN)
      await c.me.close(another)
      await c.me.flock(mine, LOCK_EX | LOCK_NB)
    },
  },
  {
    name: 'flock ends with the descriptor, and with the process',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      await c.me.flock(mine, LOCK_EX)
      await c.me.close(mine)
      await c.second.flock(theirs, LOCK_EX | LOCK_NB)
      const again = await c.me.open(`${c.dir}/file`, O_RDWR)
      await refused('EAGAIN', c.me.flock(again, LOCK_EX | LOCK_NB))
      await c.killSecond()
      await c.me.flock(again, LOCK_EX | LOCK_NB)
    },
  },
  {
    name: 'a waiting flock goes on when the lock is given back',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      await c.me.flock(mine, LOCK_EX)
      let granted = false
      const waiting = c.second.flock(theirs, LOCK_EX).then(() => {
        granted = true
      })
      await c.me.write(mine, 'done under the lock')
      expect(granted).toBe(false)
      await c.me.flock(mine, LOCK_UN)
      await waiting
      expect((await c.second.read(theirs, 100, 0)).toString()).toBe('done under the lock')
    },
  },
  {
    name: 'record locks: ranges, shared and exclusive, and who is in the way',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      await c.second.lock(theirs, { type: 'write', start: 100, length: 50 })
      await c.me.lock(mine, { type: 'write', start: 0, length: 100 })
      await c.me.lock(mine, { type: 'write', start: 150, length: 10 })
      for (const [start, length] of [
        [149, 1],
        [90, 11],
        [0, 0],
      ] as const) {
        await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'read', start, length }))
        expect(await c.me.lockInTheWay(mine, { type: 'read', start, length })).toEqual({
          type: 'write',
          start: 100,
          length: 50,
          pid: await c.secondPid(),
        })
      }
      await c.second.lock(theirs, { type: 'read', start: 100, length: 50 })
      await c.me.lock(mine, { type: 'read', start: 120, length: 10 })
      await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'write', start: 120, length: 10 }))
      await c.second.lock(theirs, { type: 'unlock', start: 110, length: 30 })
      await c.me.lock(mine, { type: 'write', start: 110, length: 30 })
      await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'write', start: 105, length: 1 }))
      await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'write', start: 145, length: 1 }))
      expect(await c.me.lockInTheWay(mine, { type: 'write', start: 500, length: 1 })).toBeUndefined()
    },
  },
  {
    name: 'record locks end with the first descriptor that is closed, and with the process',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      const other = await c.second.open(`${c.dir}/file`, O_RDONLY)
      await c.second.lock(theirs, { type: 'write', start: 0, length: 0 })
      await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'write', start: 0, length: 1 }))
      await c.second.close(other)
      await c.me.lock(mine, { type: 'write', start: 0, length: 1 })
      await c.second.lock(theirs, { type: 'write', start: 10, length: 5 })
      await refused(['EAGAIN', 'EACCES'], c.me.lock(mine, { type: 'write', start: 12, length: 1 }))
      await c.killSecond()
      await c.me.lock(mine, { type: 'write', start: 12, length: 1 })
    },
  },
  {
    name: 'a waiting record lock goes on when the range is given back',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      await c.me.lock(mine, { type: 'write', start: 0, length: 10 })
      let granted = false
      const waiting = c.second
        .lock(theirs, { type: 'write', start: 5, length: 10 }, { wait: true })
        .then(() => {
          granted = true
        })
      await c.me.write(mine, 'done under the lock')
      expect(granted).toBe(false)
      await c.me.lock(mine, { type: 'unlock', start: 0, length: 10 })
      await waiting
      expect((await c.second.read(theirs, 100, 0)).toString()).toBe('done under the lock')
    },
  },
  {
    name: 'locks of the open file description hold until the last close',
    async run(c) {
      const [mine, theirs] = await openTwice(c)
      const another = await c.me.open(`${c.dir}/file`, O_RDWR)
      await c.me.lock(mine, { type: 'write', start: 0, length: 10 }, { description: true })
      await refused(
        'EAGAIN',
        c.me.lock(another, { type: 'write', start: 5, length: 1 }, { description: true }),
      )
      await refused('EAGAIN', c.second.lock(theirs, { type: 'read', start: 5, length: 1 }))
      await c.me.close(another)
      await refused('EAGAIN', c.second.lock(theirs, { type: 'read', start: 5, length: 1 }))
      expect((await c.second.lockInTheWay(theirs, { type: 'read', start: 5, length: 1 }))?.pid).toBe(-1)
      await c.me.close(mine)
      await c.second.lock(theirs, { type: 'write', start: 5, length: 1 })
    },
  },
  {
    name: 'a counter kept under a lock loses no step',
    async run(c) {
      for (const kind of ['flock', 'record'] as const) {
        const path = `${c.dir}/${kind}`
        await c.me.writeFile(path, '0')
        await Promise.all(c.workers.map((worker) => worker.incrementUnderLock(path, 60, kind)))
        expect((await c.me.readFile(path)).toString(), kind).toBe('240')
      }
    },
  },
]
