import type { SessionEnd } from './kernel/session.ts'

/** What the worker needs of a transport, whichever it is. */
export interface Transport {
  /** Starts to serve; whether it works is told by `ready` and `done`. */
  start(): void
  /** Resolves once requests are served. Never rejects; a start that fails resolves `done`. */
  readonly ready: Promise<unknown>
  /** Resolves when nothing is served any more. Never rejects. */
  readonly done: Promise<SessionEnd>
  /** Takes no more requests; resolves when those that were taken are answered. */
  stop(): Promise<void>
}
