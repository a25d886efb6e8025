import type { Mode } from '../base/modes.ts'
import type {
  FoundDifference,
  MoverState,
  RebuildFailure,
  RunProgress,
  SourceTree,
  SweepReport,
} from '../migration/index.ts'

/** A file that could not be stored, and why. `path` is relative to the mount point; bytes that are not UTF-8 as \xNN. */
export interface Failure {
  readonly path: string
  readonly reason: string
}

/** What `status --json` prints. Other tools rely on these names: fields are added, never renamed. */
export interface StatusReport {
  readonly pid: number
  readonly supervisorPid: number
  readonly mode: Mode
  readonly source: string
  readonly target: string
  readonly stateDir: string
  readonly namespace: string
  readonly transport: string
  readonly sourceReadonly: boolean
  readonly startedAt: string
  readonly workerStarts: number
  readonly store: { readonly url: string; readonly healthy: boolean; readonly error?: string }
  readonly files: {
    readonly total: number
    readonly stored: number
    readonly pending: number
    readonly dirty: number
    readonly failed: number
    /** Legacy files removed after P3. */
    readonly drained: number
  }
  readonly bytes: { readonly total: number; readonly stored: number }
  readonly outbox: { readonly length: number; readonly oldestSeconds: number }
  readonly staging: { readonly bytes: number; readonly limit: number }
  /** The disk of the state directory takes writes. */
  readonly stateDiskAnswers: boolean
  /** Reads of content by the side that served them. */
  readonly reads: {
    readonly legacy: number
    readonly store: number
    readonly staging: number
    readonly cache: number
    /** Of those by the volume: the store was to serve them, and took too long. */
    readonly overtaken: number
  }
  readonly migration: {
    readonly state: MoverState
    readonly bytesPerSecond: number
    readonly etaSeconds: number | null
  }
  /** The first so many. */
  readonly failures: readonly Failure[]
}

/** One step of a long-running command, several times a second at most. */
export type Progress = RunProgress

export interface VerifyOptions {
  /** First, what the catalog has lost is taken for what it should be. */
  readonly acceptLosses: boolean
}

export interface VerifyReport {
  readonly files: number
  readonly bytes: number
  /** The first so many of `differenceCount`. */
  readonly differences: readonly FoundDifference[]
  readonly differenceCount: number
}

export interface MigrateReport {
  readonly files: number
  readonly bytes: number
  /** Files that were there when the run began, and are not in the store when it ends, neither as they were then nor as later. */
  readonly remaining: number
  /** Files that were made or changed meanwhile, and are not in the store as they are now: they follow by themselves. */
  readonly changed: number
  readonly failures: readonly Failure[]
}

export interface RebuildReport {
  readonly files: number
  readonly directories: number
  readonly bytes: number
  /** What the store holds but could not be made sense of, or misses; the first so many of `failureCount`. */
  readonly failures: readonly RebuildFailure[]
  readonly failureCount: number
}

export interface MigrateOptions {
  /** Bytes per second, 0 for no limit. Stays in force until changed. */
  readonly rate?: number
  /** Files in flight at once. Stays in force until changed. */
  readonly concurrency?: number
}

export interface SweepOptions {
  /** Only look. */
  readonly dryRun: boolean
  /** Also what the catalog cannot know of. */
  readonly all: boolean
}

export interface LongRunning {
  readonly onProgress: (progress: Progress) => void
  readonly signal: AbortSignal
}

/** A wish that is understood and turned down; nothing was changed. The command ends with status 3. */
export class Refused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'Refused'
  }
}

/** What the control server needs of a running worker; daemon/compose.ts composes it from the layers below. */
export interface Engine {
  status(): Promise<StatusReport>
  /** With `patience` everything is moved and the moment is waited for in which the mode can be had. @throws Refused */
  setMode(mode: Mode, patience?: LongRunning): Promise<void>
  /**
   * Starts moving everything; resolves when done, failed files included. A call while one runs applies its options and
   * joins that run; on a paused one it waits until it is resumed and done. The signal ends this wait, not the run.
   * @throws Refused where the mode copies nothing
   */
  migrate(options: MigrateOptions, run: LongRunning): Promise<MigrateReport>
  pauseMigration(): void
  resumeMigration(): void
  /** @throws Refused to accept losses while the store may have the last copy of some of what is in doubt */
  verify(run: LongRunning, options?: VerifyOptions): Promise<VerifyReport>
  /** Finds objects that no path names, and deletes them unless it is told to look only. @throws Refused; StoreError */
  sweep(options: SweepOptions, run: LongRunning): Promise<SweepReport>
  /** The tree as it is served, for the process that writes it out. */
  tree(): SourceTree
  /** Prometheus text format. */
  metrics(): Promise<string>
  /** Makes everything acknowledged durable and lets pending store work finish, up to `timeoutMs`. */
  settle(timeoutMs: number): Promise<{ readonly outboxLeft: number }>
}
