import { describe, expect, test } from 'vitest'
import { GroupCommit, NotFlushed } from '../../../src/store/embedded/group-commit.ts'
import { StoreSuperseded } from '../../../src/store/errors.ts'

/** A database whose syncs end when the test says so. */
class SlowDisk {
  readonly syncs: PromiseWithResolvers<void>[] = []
  transactions = 0

  transaction<T>(body: () => T): T {
    const result = body()
    this.transactions += 1
    return result
  }

  ready(): undefined {}

  flush(): Promise<void> {
    const sync = Promise.withResolvers<void>()
    this.syncs.push(sync)
    return sync.promise
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('group commit', () => {
  test('P2: nothing is acknowledged before its sync has ended', async () => {
    const disk = new SlowDisk()
    const commits = new GroupCommit(disk)
    const done: number[] = []
    const first = commits.run(1, () => {}).then(() => done.push(1))
    await settled()
    // The sync under way began before this change.
    const second = commits.run(1, () => {}).then(() => done.push(2))
    await settled()
    expect(done).toEqual([])
    disk.syncs[0]?.resolve()
    await first
    await settled()
    expect(done).toEqual([1])
    disk.syncs[1]?.resolve()
    await second
    expect(done).toEqual([1, 2])
  })

  test('what comes together shares a sync, and what comes meanwhile the next one', async () => {
    const disk = new SlowDisk()
    const commits = new GroupCommit(disk)
    const early = Array.from({ length: 50 }, () => commits.run(1, () => {}))
    await settled()
    const late = Array.from({ length: 50 }, () => commits.run(1, () => {}))
    disk.syncs[0]?.resolve()
    await Promise.all(early)
    await settled()
    disk.syncs[1]?.resolve()
    await Promise.all(late)
    expect(disk.syncs.length).toBe(2)
    expect(disk.transactions).toBe(2)
  })

  test('P6: a transaction holds about 128 KiB, so that the log stays near its limit', async () => {
    const disk = new SlowDisk()
    const commits = new GroupCommit(disk)
    const all = Array.from({ length: 64 }, () => commits.run(32 * 1024, () => {}))
    await settled()
    disk.syncs[0]?.resolve()
    await Promise.all(all)
    expect(disk.transactions).toBe(16)
    expect(disk.syncs.length).toBe(1)
  })

  test('a change that is refused or that fails does not fail its neighbours', async () => {
    const disk = new SlowDisk()
    const commits = new GroupCommit(disk)
    const applied: string[] = []
    const outcomes = Promise.allSettled([
      commits.run(1, () => applied.push('a')),
      commits.run(1, () => {
        throw new StoreSuperseded('old')
      }),
      commits.run(1, () => {
        throw new Error('damaged page')
      }),
      commits.run(1, () => applied.push('b')),
    ])
    await settled()
    disk.syncs[0]?.resolve()
    expect((await outcomes).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'rejected',
      'fulfilled',
    ])
    // The group was taken back as a whole, then each change applied on its own.
    expect(applied.slice(-2)).toEqual(['a', 'b'])
  })

  test('P2: what waited for a failed sync is not acknowledged; what comes later is by its own', async () => {
    const disk = new SlowDisk()
    const commits = new GroupCommit(disk)
    const first = commits.run(1, () => {}).catch((error: unknown) => error)
    await settled()
    disk.syncs[0]?.reject(new Error('EIO'))
    expect(await first).toBeInstanceOf(NotFlushed)
    const done: number[] = []
    const second = commits.run(1, () => {}).then(() => done.push(2))
    await settled()
    expect(done).toEqual([])
    disk.syncs[1]?.resolve()
    await second
    expect(disk.syncs.length).toBe(2)
  })
})
