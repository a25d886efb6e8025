import type { Request } from './request.ts'

/** Callers of a disk that does not answer get an error after so long, in milliseconds since they asked. */
const WAIT_FOR_DISK_MS = 10_000

/** Waits for what a request needs. False if the caller has waited for long enough, or is being killed. */
export async function isBackBy(back: Promise<void>, { since, signal }: Request): Promise<boolean> {
  const left = since + WAIT_FOR_DISK_MS - performance.now()
  if (left <= 0 || signal.aborted) return false
  let timer: NodeJS.Timeout | undefined
  let stop: () => void = () => undefined
  const enough = new Promise<boolean>((resolve) => {
    stop = () => resolve(false)
    timer = setTimeout(stop, left)
    signal.addEventListener('abort', stop)
  })
  try {
    return await Promise.race([back.then(() => true), enough])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
}
