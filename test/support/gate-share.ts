/** With FERRYFS_TEST_ALL=1, as at night, every case is tried. */
const isAll = process.env.FERRYFS_TEST_ALL === '1'

/**
 * Of cases that go the same way through the product, those that `npm test` has the time for: each `every`th, from the one
 * at `from` on. Each case by itself has to be worth its time; what only one of them shows is tried without this.
 */
export function gateShare<T>(cases: readonly T[], every = 2, from = 0): readonly T[] {
  return isAll ? cases : cases.filter((_, at) => at % every === from)
}
