import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Activity } from '../../../src/content/activity.ts'
import { LookUpCounts } from '../../../src/content/look-up-counts.ts'

test('P6: counts of look-ups are what a Map would have, whatever comes and goes', () => {
  const ino = fc.oneof(
    fc.bigInt({ min: 1n, max: 40n }),
    fc.bigInt({ min: 0n, max: 40n }).map((n) => n << 40n),
    fc.bigInt({ min: 2n ** 64n - 20n, max: 2n ** 64n - 1n }),
  )
  const step = fc.record({ ino, count: fc.integer({ min: 0, max: 255 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const [counts, expected] = [new LookUpCounts(), new Map<bigint, number>()]
      for (const { ino: of, count } of steps) {
        if (count % 2 === 1) {
          counts.set(of, count)
          expected.set(of, count)
        } else {
          expect(counts.take(of)).toBe(expected.get(of) ?? 0)
          expected.delete(of)
        }
      }
      expect(counts.size).toBe(expected.size)
      for (const [of, count] of expected) expect(counts.take(of)).toBe(count)
      expect(counts.size).toBe(0)
    }),
  )
})

test('P6: of a listing of very many files little is kept, and each is in use until the kernel forgets it', () => {
  const activity = new Activity()
  const unused: bigint[] = []
  activity.onUnused = (ino) => unused.push(ino)
  const files = 200_000n
  activity.of(1n).opens += 1
  for (let ino = 2n; ino <= files; ino += 1n) activity.of(ino).lookups += 1n
  const { full, lookedUp } = activity.size
  expect(full).toBeLessThanOrEqual(16_384)
  expect(full + lookedUp).toBe(Number(files))
  expect(activity.peek(1n)?.opens).toBe(1)
  expect(activity.peek(2n)?.lookups).toBe(1n)
  for (let ino = 2n; ino <= files; ino += 1n) {
    activity.of(ino).lookups -= 1n
    activity.settle(ino)
  }
  expect(unused).toHaveLength(Number(files) - 1)
  expect(activity.size).toEqual({ full: 1, lookedUp: 0 })
})

test('P2: what is used or counted too high is kept in full', () => {
  const activity = new Activity()
  activity.of(1n).lookups += 1000n
  activity.of(2n).pins += 1
  const pinned = activity.of(2n)
  for (let ino = 10n; ino < 100_000n; ino += 1n) activity.of(ino).lookups += 1n
  expect(activity.peek(1n)?.lookups).toBe(1000n)
  expect(activity.of(2n)).toBe(pinned)
})
