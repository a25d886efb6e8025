import { z } from 'zod'
import { MODES } from '../base/modes.ts'
import type { SweepReport } from '../migration/index.ts'
import type { MigrateReport, Progress, StatusReport, VerifyReport } from './engine.ts'

/**
 * What commands and a worker say to each other over the control socket: one line of JSON with the request, then lines
 * with progress, signs of life, and at last the result or an error. One request for each connection.
 */
export const requestSchema = z.discriminatedUnion('command', [
  z.strictObject({ command: z.literal('status') }),
  z.strictObject({
    command: z.literal('mode'),
    mode: z.enum(MODES).optional(),
    /** Until it can be had. */
    wait: z.boolean().optional(),
  }),
  z.strictObject({
    command: z.literal('migrate'),
    /** Follow it to its end; else the answer comes once it runs. */
    wait: z.boolean(),
    rate: z.number().nonnegative().optional(),
    concurrency: z.int().min(1).max(256).optional(),
  }),
  z.strictObject({ command: z.literal('pause') }),
  z.strictObject({ command: z.literal('resume') }),
  z.strictObject({ command: z.literal('verify'), acceptLosses: z.boolean().optional() }),
  z.strictObject({ command: z.literal('sweep'), dryRun: z.boolean(), all: z.boolean() }),
  /** From its answer on the connection is one of tree-frames.ts, over which the tree is read. */
  z.strictObject({ command: z.literal('tree') }),
  z.strictObject({
    command: z.literal('unmount'),
    /** Detach although it is in use, and leave pending work to the next mount. */
    force: z.boolean(),
  }),
])

export type ControlRequest = z.infer<typeof requestSchema>
export type Command = ControlRequest['command']

/** The longest request; a path may take 4,096 bytes and each be escaped. */
export const MAX_REQUEST_BYTES = 64 * 1024

/** How often a busy server says that it lives, and how long a client waits for any sign before it gives up. */
export const SIGN_OF_LIFE_MS = 5_000
export const SILENCE_MS = 30_000

const failure = z.object({ path: z.string(), reason: z.string() })
const mode = z.enum(MODES)
const seconds = z.number().nullable()

// Loose: what a newer worker adds is shown by --json of an older command too.
const statusSchema = z.looseObject({
  pid: z.int(),
  supervisorPid: z.int(),
  mode,
  source: z.string(),
  target: z.string(),
  stateDir: z.string(),
  namespace: z.string(),
  transport: z.string(),
  sourceReadonly: z.boolean(),
  startedAt: z.string(),
  workerStarts: z.number(),
  store: z.looseObject({ url: z.string(), healthy: z.boolean(), error: z.string().exactOptional() }),
  files: z.looseObject({
    total: z.number(),
    stored: z.number(),
    pending: z.number(),
    dirty: z.number(),
    failed: z.number(),
    drained: z.number(),
  }),
  bytes: z.looseObject({ total: z.number(), stored: z.number() }),
  outbox: z.looseObject({ length: z.number(), oldestSeconds: z.number() }),
  staging: z.looseObject({ bytes: z.number(), limit: z.number() }),
  stateDiskAnswers: z.boolean().default(true),
  reads: z.looseObject({
    legacy: z.number(),
    store: z.number(),
    staging: z.number(),
    cache: z.number(),
    overtaken: z.number(),
  }),
  migration: z.looseObject({
    state: z.enum(['idle', 'scanning', 'running', 'paused', 'done']),
    bytesPerSecond: z.number(),
    etaSeconds: seconds,
  }),
  failures: z.array(failure),
})

const migrateReport = z.object({
  files: z.number(),
  bytes: z.number(),
  remaining: z.number(),
  changed: z.number(),
  failures: z.array(failure),
})

const nothing = z.object({})

/** What each command answers. */
export interface Results {
  readonly status: StatusReport
  readonly mode: { readonly mode: StatusReport['mode'] }
  readonly migrate: MigrateReport | { readonly started: true }
  readonly pause: object
  readonly resume: object
  readonly verify: VerifyReport
  readonly sweep: SweepReport
  readonly tree: object
  readonly unmount: { readonly outboxLeft: number }
}

export const resultSchemas: { readonly [C in Command]: z.ZodType<Results[C]> } = {
  status: statusSchema,
  mode: z.object({ mode }),
  migrate: z.union([migrateReport, z.object({ started: z.literal(true) })]),
  pause: nothing,
  resume: nothing,
  verify: z.object({
    files: z.number(),
    bytes: z.number(),
    differences: z.array(
      z.object({
        path: z.string(),
        kind: z.enum(['missing', 'corrupt', 'differs', 'unreadable', 'pending', 'doubtful']),
        detail: z.string(),
      }),
    ),
    differenceCount: z.number(),
  }),
  sweep: z.object({
    objects: z.number(),
    found: z.number(),
    swept: z.number(),
    strays: z.array(
      z.object({
        space: z.enum(['files', 'chunks', 'dirs']),
        key: z.string(),
        reason: z.string().exactOptional(),
      }),
    ),
    refused: z.string().exactOptional(),
  }),
  tree: nothing,
  unmount: z.object({ outboxLeft: z.number() }),
}

const progressSchema: z.ZodType<Progress> = z.object({
  phase: z.string(),
  files: z.number(),
  filesTotal: z.number(),
  bytes: z.number(),
  bytesTotal: z.number(),
  bytesPerSecond: z.number(),
  etaSeconds: seconds,
})

export const frameSchema = z.union([
  z.object({ alive: z.literal(true) }),
  z.object({ progress: progressSchema }),
  z.object({ result: z.unknown() }),
  z.object({ error: z.object({ message: z.string(), exitStatus: z.int(), code: z.string().optional() }) }),
])

export type Frame =
  | { readonly alive: true }
  | { readonly progress: Progress }
  | { readonly result: unknown }
  | {
      readonly error: {
        readonly message: string
        readonly exitStatus: number
        readonly code?: string | undefined
      }
    }
