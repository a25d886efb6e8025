import type { KernelSession } from './kernel/session.ts'
import type { KernelNotifier } from './operations.ts'

/** How serving ended: unmounted, aborted, stopped, or failed with an error. */
export type TransportEnd = Awaited<KernelSession['done']>

/** What the worker needs of a transport, whichever it is. */
export interface Transport {
  /** Has the kernel forget; none where nothing is kept that would be out of date. */
  readonly notifier?: KernelNotifier
  /** Starts to serve; whether it works is told by `ready` and `done`. */
  start(): void
  /** Resolves once requests are served. Never rejects; a start that fails resolves `done`. */
  readonly ready: Promise<unknown>
  /** Resolves when nothing is served any more. Never rejects. */
  readonly done: Promise<TransportEnd>
  /** Takes no more requests; resolves when those that were taken are answered. */
  stop(): Promise<void>
}
