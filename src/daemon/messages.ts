import type { MountConfig } from '../config/mount-config.ts'
import type { StateNames } from './connection.ts'

/**
 * What supervisor and worker say to each other over the IPC channel. A supervisor lives on while workers are upgraded, so
 * a worker that speaks another version says so at once and the old one goes on serving.
 */
export const PROTOCOL = 1

/** The descriptor of /dev/fuse in a worker: after standard input, output, error and the IPC channel. */
export const CONNECTION_FD = 4

export interface StartMessage {
  readonly type: 'start'
  readonly config: MountConfig
  readonly runDir: string
  readonly supervisorPid: number
  readonly workerStarts: number
  readonly startedAt: string
  readonly takesOver: boolean
  readonly held: Readonly<Record<string, string>>
  /** Path of the file in memory in which a worker notes for its successors what it met without room; an older supervisor has none. */
  readonly notes?: string | undefined
  /** Whether `CONNECTION_FD` is there. */
  readonly hasConnection: boolean
}

export type ToWorker =
  | StartMessage
  /** Finish and exit; with `settleMs`, work for the store may first go on for that long. */
  | { readonly type: 'stop'; readonly settleMs?: number | undefined }
  /** To be answered with `pong`: a worker whose event loop is stuck is replaced. */
  | { readonly type: 'ping' }
  /** Answer to a request of the worker. */
  | {
      readonly type: 'reply'
      readonly request: number
      readonly value?: unknown
      readonly error?: { readonly message: string; readonly code?: string | undefined } | undefined
    }

export type FromWorker =
  /** The code is loaded and waits for `start`. */
  | { readonly type: 'loaded'; readonly protocol: number }
  /** Mount, if that has not been done; answered with the predecessor's state. */
  | { readonly type: 'attach'; readonly request: number; readonly names?: StateNames | undefined }
  /** SOURCE was taken up, or left. */
  | { readonly type: 'source'; readonly used: boolean }
  | { readonly type: 'state'; readonly state: unknown }
  | { readonly type: 'ready' }
  | { readonly type: 'pong' }
  | { readonly type: 'failed'; readonly message: string; readonly exitStatus: number }
  | { readonly type: 'hold'; readonly request: number; readonly id: string; readonly path: string }
  | { readonly type: 'drop'; readonly id: string }
  | { readonly type: 'unmount'; readonly request: number; readonly lazy: boolean }
  /** The kernel closed the connection; the worker is about to settle and exit. */
  | { readonly type: 'closed' }
  /** Somebody sent the worker a SIGTERM: put another in its place. */
  | { readonly type: 'replace' }
  /** Everything is done as asked; the process ends now. */
  | { readonly type: 'finished' }

/** What a detached supervisor tells the command that started it. */
export type FromSupervisor =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly message: string; readonly exitStatus: number }

export interface SupervisorOrder {
  readonly config: MountConfig
  readonly runDir: string
  readonly workerFile: string
}

const FROM_WORKER_TYPES: ReadonlySet<unknown> = new Set([
  'loaded',
  'attach',
  'source',
  'state',
  'ready',
  'pong',
  'failed',
  'hold',
  'drop',
  'unmount',
  'closed',
  'replace',
  'finished',
] satisfies FromWorker['type'][])

/** The other end is our own code and of our own version once `loaded` said so; this tells apart what is not a message. */
export function isFromWorker(message: unknown): message is FromWorker {
  return (
    typeof message === 'object' &&
    message !== null &&
    'type' in message &&
    FROM_WORKER_TYPES.has(message.type)
  )
}
