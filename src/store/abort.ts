import { untilAborted } from '../base/concurrency.ts'
import { StoreTimeout, StoreUnavailable } from './errors.ts'

/**
 * Runs `work` and stops waiting for it when `signal` is aborted. The work itself goes on to its end, so whatever it
 * holds (a buffer, a descriptor) stays in use until then.
 * @throws StoreUnavailable if the signal was aborted before anything began: nothing happened
 * @throws StoreTimeout if it was aborted on the way: the outcome of a write is unknown
 */
export async function untilGivenUp<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  if (signal?.aborted) {
    throw new StoreUnavailable(`${what}: given up before it began`, { cause: signal.reason })
  }
  return untilAborted(
    work(),
    signal,
    ({ reason }) => new StoreTimeout(`${what}: given up before the store answered`, { cause: reason }),
  )
}
