import { delay, untilAborted } from '../base/concurrency.ts'
import type { Mode } from '../base/modes.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { ModeRefused, type Wish } from './mode-switch.ts'
import type { Mover } from './mover.ts'
import type { RunProgress } from './progress.ts'

interface Run {
  readonly onProgress: (progress: RunProgress) => void
  /** Ends the wait. The mode stays as it is; a migration that it has begun goes on. */
  readonly signal: AbortSignal
}

interface Parts {
  readonly context: OverlayContext
  readonly mover: Mover
}

// Between two requests for the mode, each of which walks the whole tree, so ever later.
const FIRST_AGAIN_MS = 1000
const LONGEST_AGAIN_MS = 60_000
const LOOK_MS = 200

/**
 * Asks for a mode until it is in force: everything is moved, and the moment is awaited in which the store has all there is.
 * @throws ModeRefused where waiting does not help
 */
export async function whenItCanBe(
  ask: (wish: Wish) => Promise<void>,
  mode: Mode,
  { context, mover }: Parts,
  { onProgress, signal }: Run,
): Promise<void> {
  for (let againMs = FIRST_AGAIN_MS; ; againMs = Math.min(LONGEST_AGAIN_MS, againMs * 2)) {
    signal.throwIfAborted()
    try {
      await ask({ patient: true })
      return
    } catch (error) {
      if (!(error instanceof ModeRefused && error.passes && context.policy().copies)) throw error
      context.log.info({ mode, reason: error.message }, 'the mode is waited for')
    }
    // What it could not do is listed as a failure; it is tried again all the same.
    const moved = mover.run({}, onProgress).catch(() => undefined)
    await untilAborted(moved, signal)
    await quiet(context, performance.now() + againMs, onProgress, signal)
  }
}

/** Until the store has all that is known of, or until then. */
async function quiet(
  { catalog, carrier }: OverlayContext,
  deadline: number,
  onProgress: Run['onProgress'],
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const { files, stored, bytes, storedBytes } = catalog.lists.totals()
    onProgress({
      phase: 'waiting',
      files: stored,
      filesTotal: files,
      bytes: storedBytes,
      bytesTotal: bytes,
      bytesPerSecond: 0,
      etaSeconds: null,
    })
    await untilAborted(delay(LOOK_MS), signal)
    const settled = await untilAborted(carrier.idle(LOOK_MS), signal)
    if ((settled && catalog.lists.unstoredCount() === 0) || performance.now() > deadline) return
  }
}
