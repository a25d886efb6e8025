import type { KernelSession } from './kernel/session.ts'

/** How serving ended: unmounted, aborted, stopped, or failed with an error. */
export type TransportEnd = Awaited<KernelSession['done']>

/** What the worker needs of a transport, whichever it is. */
export interface Transport {
  /** Starts to serve; whether it works is told by `ready` and `done`. */
  start(): void
  /** Resolves once requests are served. Never rejects; a start that fails resolves `done`. */
  readonly ready: Promise<unknown>
  /** Resolves when nothing is served any more. Never rejects. */
  readonly done: Promise<TransportEnd>
  /** Takes no more requests; resolves when those that were taken are answered. */
  stop(): Promise<void>
}
