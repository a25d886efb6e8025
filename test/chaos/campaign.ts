import { resolve } from 'node:path'
import { MODES, type Mode } from '../../src/base/modes.ts'
import { builtCli } from '../support/mount/built.ts'
import type { Fault } from './faults/fault.ts'
import { takeAwayLater } from './interrupts.ts'
import { chosenFaults, type Plan, plan, plans } from './matrix.ts'
import type { Options } from './options.ts'
import { Collector, shownMode } from './report/collector.ts'
import { type Run, runPlan } from './runner.ts'
import type { Program } from './world/daemon.ts'
import { embeddedStore, riakStore, type StoreUnderTest } from './world/store.ts'
import { HOW_TO_GET_TOXIPROXY, toxiproxyProgram } from './world/toxiproxy.ts'

/** What a run needs is not there; the message says how to get it. */
export class CannotRun extends Error {}

export interface Outcome {
  readonly options: Options
  readonly collector: Collector
  readonly store: string
  readonly modes: readonly Mode[]
  readonly faults: readonly Fault[]
  /** Every cell was met at least once. */
  readonly complete: boolean
}

export interface Campaign {
  /** What is tried instead of the product that is built. */
  readonly program?: Program
  /** A violation ends everything, unshrunk. */
  readonly stopAtFirst?: boolean
}

const MINUTE_MS = 60_000
// A first pass over the matrix may take this many times what --minutes says; then the report says what is missing.
const PATIENCE = 3

/** @throws CannotRun, Usage */
export async function campaign(
  options: Options,
  log: (line: string) => void,
  { program = { cli: builtCli(), environment: {} }, stopAtFirst = false }: Campaign = {},
): Promise<Outcome> {
  if (process.geteuid?.() !== 0) throw new CannotRun('The chaos run mounts file systems: run it as root.')
  const faults = chosenFaults(options.faults)
  const collector = new Collector()
  const run: Run = {
    program,
    collector,
    shrinkMs: stopAtFirst ? 0 : options.shrink * 1000,
    storeName: options.store,
    evidence: stopAtFirst ? undefined : resolve(options.report),
    log,
  }
  const queue = new Queue(options, faults, collector, stopAtFirst)
  const lanes = options.path === undefined ? options.lanes : 1
  const stores: StoreUnderTest[] = []
  const close = async (): Promise<void> => {
    for (const store of stores.splice(0)) await store[Symbol.asyncDispose]()
  }
  const forget = takeAwayLater(close)
  try {
    for (let lane = 0; lane < lanes; lane += 1) stores.push(await openStore(options, lane))
    const store = stores[0]?.description ?? ''
    log(`chaos: ${store}; seed ${options.seed}`)
    await Promise.all(stores.map((one, lane) => workThrough(run, queue, one, lane, options.path)))
    return { options, collector, store, modes: options.modes, faults, complete: queue.complete }
  } finally {
    forget()
    await close()
  }
}

async function workThrough(
  run: Run,
  queue: Queue,
  store: StoreUnderTest,
  lane: number,
  path: string | undefined,
): Promise<void> {
  for (let next = queue.next(); next; next = queue.next()) {
    const started = performance.now()
    const held = await runPlan(run, next, store, lane, path)
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    run.log(`${held ? 'ok  ' : 'FAIL'} ${labelOf(next).padEnd(12)} ${next.faults.join(', ')} (${seconds} s)`)
  }
}

const labelOf = ({ mode, settings: { variant } }: Plan): string => shownMode(mode, variant)

/** Which case comes next, over all lanes. */
class Queue {
  readonly #plans: Iterator<Plan & { readonly pass: number }>
  readonly #options: Options
  readonly #collector: Collector
  readonly #stopAtFirst: boolean
  complete = false

  constructor(options: Options, faults: readonly Fault[], collector: Collector, stopAtFirst: boolean) {
    this.#options = options
    this.#collector = collector
    this.#stopAtFirst = stopAtFirst
    const [mode = MODES[0]] = options.modes
    this.#plans =
      options.path === undefined
        ? plans({
            seed: options.seed,
            modes: options.modes,
            faults,
            pairs: options.faults === undefined,
            variant: options.variant,
          })
        : [{ ...plan(mode, faults, options.seed, options.variant ?? 'plain'), pass: 0 }].values()
  }

  next(): Plan | undefined {
    const { elapsedMs, violations } = this.#collector
    if (this.#stopAtFirst && violations.length > 0) return undefined
    const limit = this.#options.minutes * MINUTE_MS
    if (elapsedMs > Math.max(limit * PATIENCE, MINUTE_MS)) return undefined
    const { value, done } = this.#plans.next()
    if (done) {
      this.complete = true
      return undefined
    }
    if (value.pass > 0) this.complete = true
    return value.pass > 0 && elapsedMs > limit ? undefined : value
  }
}

async function openStore({ store, seed }: Options, lane: number): Promise<StoreUnderTest> {
  if (store === 'embedded') return embeddedStore()
  const program = toxiproxyProgram()
  if (program === undefined) throw new CannotRun(HOW_TO_GET_TOXIPROXY)
  return riakStore(program, seed + lane)
}
