import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { readBesideWriter, readTheNewest } from '../../support/past/run.ts'
import { Truth } from '../../support/past/truth.ts'
import { PastWriter } from '../../support/past/writer.ts'
import { Random } from '../../support/rig/random.ts'
import { CI_SEED } from '../../support/seed.ts'

// Answers in each mode; the nightly run has FERRYFS_RUNS=100000. FERRYFS_SEED=n draws the same questions and changes again.
const ANSWERS = Number(process.env.FERRYFS_RUNS ?? 1200)
const seed = Number(process.env.FERRYFS_SEED ?? CI_SEED ?? Date.now() % 1_000_000)
console.log(`changes past the overlay: FERRYFS_SEED=${seed}`)

const AT_MOST_MS = 60_000 + ANSWERS * 20

describeMounted('readers beside random changes of the volume behind the mount', () => {
  let ferry: Ferry
  let writer: PastWriter

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    writer.end()
    await ferry.clear()
  })

  /** Reads, and no answer is wrong. */
  async function read(truth: Truth): Promise<void> {
    const { answers, violations } = await readBesideWriter({
      mount: ferry.target,
      seed,
      answers: ANSWERS,
      truth,
      writer,
    })
    expect(violations.join('\n')).toBe('')
    const changes = [...writer.changes.values()].reduce((sum, count) => sum + count, 0)
    console.log(`${answers} answers beside ${changes} changes; ${truth.torn} were part of each`)
  }

  test.each(['observe', 'mirror', 'prefer-store'] as const)(
    'P1: in %s they see old or new, never else, never older than seen; an open sees the newest',
    async (mode) => {
      const truth = new Truth({ isFresh: true })
      writer = new PastWriter(ferry.source, new Random(seed), truth)
      writer.begin()
      await ferry.mount('--mode', mode)
      await read(truth)
      await readTheNewest({ mount: ferry.target, truth, writer })
    },
    AT_MOST_MS,
  )

  test(
    'P1, P3: in drain they see old or new, never else, never older than seen, while files leave the volume',
    async () => {
      const truth = new Truth({ isFresh: false })
      writer = new PastWriter(ferry.source, new Random(seed), truth)
      writer.begin()
      await ferry.mount('--mode', 'drain')
      await read(truth)
      // Ends with 3: what keeps the directories on the volume stays there.
      await ferry.ferryfs('migrate', ferry.target, '--wait')
      await ferry.until('files that have left the volume', ({ files }) => files.drained > 0)
      await read(truth)
    },
    AT_MOST_MS,
  )

  test(
    'P1: in store-only they see nothing of it',
    async () => {
      const truth = new Truth({ isFresh: false })
      writer = new PastWriter(ferry.source, new Random(seed), truth)
      writer.begin()
      await ferry.mount('--mode', 'mirror')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('mode', ferry.target, 'store-only', '--wait')
      truth.seal()
      await read(truth)
    },
    AT_MOST_MS,
  )
})
