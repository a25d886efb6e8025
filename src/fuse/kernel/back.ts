import { FsError } from '../../base/errors.ts'
import type { Request } from './request.ts'

/** Callers of a disk that does not answer get an error after so long, in milliseconds since they asked. */
const WAIT_FOR_DISK_MS = 10_000
/** The same where nearly all buffers are lent to those who wait. */
const WAIT_WITHOUT_BUFFERS_MS = 500

/** Waits for what a request needs. False if the caller has waited for long enough, or is being killed. */
export async function isBackBy(
  back: Promise<void>,
  { since, signal }: Request,
  patienceMs = WAIT_FOR_DISK_MS,
): Promise<boolean> {
  const left = since + patienceMs - performance.now()
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

/**
 * What changes something is begun once that can be noted. `long`: there are buffers enough for others meanwhile.
 * @throws FsError EIO if it cannot for too long, EINTR
 */
export async function whenReady(
  ready: Promise<void>,
  request: Request,
  long: boolean,
  perform: () => unknown,
): Promise<unknown> {
  if (await isBackBy(ready, request, long ? WAIT_FOR_DISK_MS : WAIT_WITHOUT_BUFFERS_MS)) return perform()
  const message = 'the disk that changes are noted on does not answer'
  throw new FsError(request.signal.aborted ? 'EINTR' : 'EIO', message)
}
