import type { Logger } from 'pino'
import type { MountConfig } from '../config/mount-config.ts'
import type { Engine, LongRunning, RebuildReport } from './engine.ts'

/** The way to the kernel, as `attach` hands it over. */
export interface Attachment {
  /**
   * The descriptor of /dev/fuse, mounted. Undefined for a transport that mounts by itself (fuse-native): it does so now.
   */
  readonly fd: number | undefined
  /** What a predecessor gave to `saveState`; undefined where the kernel's INIT is still to come. */
  readonly state: unknown
  /** Options of mount(8) for a transport that mounts by itself. */
  readonly flags: readonly string[]
}

/** How a SOURCE's mark may name a state directory. */
export interface StateNames {
  readonly id: string
  readonly replaces: readonly string[]
}

/** What a worker's composition has of its supervisor. */
export interface Connection {
  readonly supervisorPid: number
  /** How many workers this mount has had, this one included. */
  readonly workerStarts: number
  /** When the mount began, ISO 8601; stays the same over workers. */
  readonly startedAt: string
  /**
   * Another worker of this mount served before: applications wait in mid-call. Such a start must not fail because the
   * store is away.
   */
  readonly takesOver: boolean
  readonly log: Logger
  /**
   * Descriptors that predecessors had held: id → a path under /proc to open for a descriptor of one's own, which works
   * for an unlinked file too. An id that the successor does not know is to be dropped.
   */
  readonly held: ReadonlyMap<string, string>
  /** Path of a file in memory that outlives this worker, for what it met without room; undefined where there is none. */
  readonly notes: string | undefined
  /**
   * Mounts (the first worker) or takes the connection over. To be called last, when everything else stands: until then
   * nothing is mounted, and a start that fails has left no trace on TARGET.
   * @param state by which names marks know this state directory, and which others it has replaced
   * @throws UsageError, Error of mount(8)
   */
  attach(state: StateNames): Promise<Attachment>
  /** SOURCE is in use from now on, or has been left: what keeps others from it, and it from being unmounted, goes with that. */
  useSource(used: boolean): void
  /** Keeps what the transport negotiated with the kernel (plain JSON) for successors. */
  saveState(state: unknown): void
  /** The kernel has closed the connection (unmounted from outside, or aborted): the daemon settles and ends. */
  closed(): void
  /**
   * Has the supervisor open the file behind `fd` too, so that it outlives this worker though it is unlinked. Resolves
   * when it does. The same id again replaces.
   * @throws Error if it cannot be opened
   */
  hold(id: string, fd: number): Promise<void>
  /** Ends a hold; one that is not there is no error. */
  drop(id: string): void
}

/** A running worker's inside. */
export interface RunningEngine extends Engine {
  /**
   * Stops taking requests, finishes those in flight, makes everything durable and closes all files. The connection to
   * the kernel stays as it is, for a successor.
   */
  stop(): Promise<void>
}

/**
 * Composes the layers below and starts to serve; resolves once INIT is answered. If it rejects nothing serves and no file
 * is left open. The error decides `mount`'s exit status: UsageError's own, 4 for StoreUnavailable and StoreTimeout
 * (also as a cause), 3 for Refused, else 1.
 */
export type StartEngine = (config: MountConfig, connection: Connection) => Promise<RunningEngine>

/** What `rebuild` is told. The state directory is held by the caller, and has no catalog that a mount has used. */
interface RebuildRequest {
  readonly store: string
  readonly namespace: string
  readonly stateDir: string
  readonly opTimeout: number
  readonly concurrency: number
  readonly log: Logger
  /** What the store has lost is left out. */
  readonly acceptLosses?: boolean
}

/** Makes the catalog anew from the store alone. Errors as for StartEngine. */
export type RebuildState = (request: RebuildRequest, run: LongRunning) => Promise<RebuildReport>
