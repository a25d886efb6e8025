import { StoreTimeout, StoreUnavailable } from './errors.ts'

/**
 * Runs `work` and stops waiting for it when `signal` is aborted. The work itself goes on to its end, so whatever it
 * holds (a buffer, a descriptor) stays in use until then.
 * @throws StoreUnavailable if the signal was aborted before anything began: nothing happened
 * @throws StoreTimeout if it was aborted on the way: the outcome of a write is unknown
 */
export async function untilAborted<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  if (!signal) return work()
  if (signal.aborted) {
    throw new StoreUnavailable(`${what}: given up before it began`, { cause: signal.reason })
  }
  const aborted = Promise.withResolvers<never>()
  const onAbort = () =>
    aborted.reject(new StoreTimeout(`${what}: given up before the store answered`, { cause: signal.reason }))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work(), aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
