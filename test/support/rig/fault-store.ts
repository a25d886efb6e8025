import {
  compareVersions,
  type GetOptions,
  type KeySpace,
  type KeyValueStore,
  type ObjectToStore,
  type ObjectVersion,
  type RequestOptions,
  type StoreCapabilities,
  type StoredObject,
} from '../../../src/store/contract.ts'
import { StoreRejected, StoreTimeout, StoreUnavailable } from '../../../src/store/errors.ts'
import type { MemoryStore } from '../../../src/store/memory/store.ts'
import { turns } from './clock.ts'
import { Random } from './random.ts'

// Virtual milliseconds; the same as the rig's --op-timeout.
const DEADLINE_MS = 30_000

type Operation = 'get' | 'put' | 'delete' | 'ping'

/**
 * What goes wrong with one request. `unavailable`: refused for now. `rejected`: refused for ever. `timeout`: lost on the way there. `lost-ack`: done, and the
 * answer lost. `late`: no answer, done when `deliverLate` is called. `hang`: no answer until `release`. `stale`: the
 * value before the last. `not-found`: nothing. `corrupt`: a byte of the value is another one.
 */
export type Fault =
  | 'unavailable'
  | 'rejected'
  | 'timeout'
  | 'lost-ack'
  | 'late'
  | 'hang'
  | 'stale'
  | 'not-found'
  | 'corrupt'

export interface FaultRule {
  readonly fault: Fault
  readonly on?: readonly Operation[]
  readonly space?: KeySpace
  readonly key?: RegExp
  /** Chance per request, 1 if absent. */
  readonly chance?: number
  /** How many requests it hits, no end if absent. */
  readonly times?: number
}

/** The network and the far side of a store in memory: lives on when a daemon dies. */
export class FaultyWorld {
  readonly memory: MemoryStore
  readonly #random: Random
  readonly #previous = new Map<string, StoredObject | undefined>()
  readonly #late: Array<() => Promise<void>> = []
  #hanging: Array<() => void> = []
  #rules: Array<{ rule: FaultRule; left: number }> = []
  /** Most turns of the event loop that an answer takes more than it has to. */
  maxDelay = 0
  healings = 0
  /** Every request as `operation space key`, in the order of arrival. */
  readonly requests: string[] = []

  constructor(memory: MemoryStore, seed: number) {
    this.memory = memory
    this.#random = new Random(seed)
  }

  /** Adds a rule; the first that fits a request counts. The lease (space meta) is only hit by rules that name it. */
  inject(rule: FaultRule): void {
    this.#rules.push({ rule, left: rule.times ?? Number.POSITIVE_INFINITY })
  }

  get failing(): boolean {
    return this.#rules.length > 0
  }

  get hanging(): number {
    return this.#hanging.length
  }

  /** No more faults, for requests that are under way neither; those that hang go on. */
  heal(): void {
    this.#rules = []
    this.healings += 1
    this.release()
  }

  release(): void {
    const hanging = this.#hanging
    this.#hanging = []
    for (const go of hanging) go()
  }

  /** Writes that were lost on the way arrive now. One that is older than what is there has no effect. */
  async deliverLate(): Promise<void> {
    for (const arrive of this.#late.splice(0)) await arrive().catch(() => undefined)
  }

  /** The fault that hits this request, if any. */
  draw(operation: Operation, space: KeySpace | undefined, key: string): Fault | undefined {
    this.requests.push(`${operation} ${space ?? ''} ${key}`)
    const found = this.#rules.find(
      ({ rule, left }) =>
        left > 0 &&
        (rule.on ? rule.on.includes(operation) : true) &&
        (rule.space ? rule.space === space : space !== 'meta') &&
        (rule.key?.test(key) ?? true) &&
        applies(rule.fault, operation) &&
        this.#random.next() < (rule.chance ?? 1),
    )
    if (!found) return undefined
    found.left -= 1
    this.#rules = this.#rules.filter(({ left }) => left > 0)
    return found.rule.fault
  }

  /** Whose turn it is, where somebody schedules; asked before a request has its effect and before its answer arrives. */
  gate: ((what: string) => Promise<void>) | undefined

  async delay(what: string): Promise<void> {
    if (this.gate) await this.gate(what)
    else if (this.maxDelay > 0) await turns(this.#random.below(this.maxDelay + 1))
  }

  hang(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#hanging.push(resolve)
      // As the store's own deadline in a daemon: nothing waits for an answer for ever, background work neither.
      setTimeout(() => reject(new StoreTimeout('no answer')), DEADLINE_MS)
      signal?.addEventListener(
        'abort',
        () => reject(new StoreTimeout('given up', { cause: signal.reason })),
        {
          once: true,
        },
      )
    })
  }

  later(effect: () => Promise<void>): void {
    this.#late.push(effect)
  }

  async put(space: KeySpace, key: string, object: ObjectToStore): Promise<void> {
    const before = await this.memory.get(space, key)
    await this.memory.put(space, key, object)
    if (!before || compareVersions(before.version, object.version) < 0) {
      this.#previous.set(`${space} ${key}`, before)
    }
  }

  previous(space: KeySpace, key: string): StoredObject | undefined {
    return this.#previous.get(`${space} ${key}`)
  }

  damage(object: StoredObject): StoredObject {
    const value = Buffer.from(object.value)
    if (value.length === 0) return { ...object, metadata: {} }
    const at = this.#random.below(value.length)
    value[at] = (value[at] ?? 0) ^ 0x40
    return { ...object, value }
  }
}

function applies(fault: Fault, operation: Operation): boolean {
  if (fault === 'stale' || fault === 'not-found' || fault === 'corrupt') return operation === 'get'
  if (fault === 'lost-ack' || fault === 'late') return operation === 'put' || operation === 'delete'
  return true
}

/** A daemon's connection to that world. When the daemon is dead no request leaves it and no answer reaches it. */
export class FaultStore implements KeyValueStore {
  readonly url = 'faulty:'
  readonly capabilities: StoreCapabilities
  readonly #world: FaultyWorld
  #dead = false
  #writing = 0

  constructor(world: FaultyWorld) {
    this.#world = world
    this.capabilities = world.memory.capabilities
  }

  /** True if writes are on their way to the store, which arrive at any time. */
  die(): boolean {
    this.#dead = true
    return this.#writing > 0
  }

  async get(space: KeySpace, key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    const { expect } = options
    const fault = await this.#ask('get', space, key, options.signal)
    const found = await this.#world.memory.get(space, key, expect ? { expect } : {})
    if (this.#world.gate) await this.#world.gate(`answer to get ${key}`)
    await this.#answer()
    if (fault === 'corrupt') return found && this.#world.damage(found)
    if (fault !== 'stale' && fault !== 'not-found') return found
    // An adapter that expects a version tries harder and then gives up; it never hands out less.
    if (expect) throw new StoreUnavailable(`${key}: the expected version is not to be had`)
    return fault === 'stale' ? (this.#world.previous(space, key) ?? found) : undefined
  }

  put(space: KeySpace, key: string, object: ObjectToStore, options: RequestOptions = {}): Promise<void> {
    const copy = { ...object, value: Buffer.from(object.value) }
    return this.#write('put', space, key, options, () => this.#world.put(space, key, copy))
  }

  delete(space: KeySpace, key: string, version: ObjectVersion, options: RequestOptions = {}): Promise<void> {
    return this.#write('delete', space, key, options, () => this.#world.memory.delete(space, key, version))
  }

  async *keys(space: KeySpace): AsyncIterable<string> {
    yield* this.#world.memory.keys(space)
  }

  async ping(options: RequestOptions = {}): Promise<void> {
    await this.#ask('ping', undefined, '', options.signal)
    await this.#answer()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  async #write(
    operation: 'put' | 'delete',
    space: KeySpace,
    key: string,
    options: RequestOptions,
    effect: () => Promise<void>,
  ): Promise<void> {
    const fault = await this.#ask(operation, space, key, options.signal)
    // A chunk carries no version that would tell a late write from a current one.
    if (fault === 'late' && space !== 'chunks') this.#world.later(effect)
    if (fault === 'late') throw new StoreTimeout(`${operation} ${key}: no answer`)
    this.#writing += 1
    try {
      await effect()
    } finally {
      this.#writing -= 1
    }
    if (this.#world.gate) await this.#world.gate(`answer to ${operation} ${key}`)
    await this.#answer()
    if (fault === 'lost-ack') throw new StoreTimeout(`${operation} ${key}: the answer was lost`)
  }

  async #ask(
    operation: Operation,
    space: KeySpace | undefined,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<Fault | undefined> {
    await this.#answer()
    const { healings } = this.#world
    if (signal?.aborted) throw new StoreUnavailable(`${operation} ${key}: given up`, { cause: signal.reason })
    const fault = this.#world.draw(operation, space, key)
    await this.#world.delay(`${operation} ${key}`)
    if (this.#dead) await never()
    if (this.#world.healings !== healings) return undefined
    if (fault === 'unavailable') throw new StoreUnavailable(`${operation} ${key}: refused`)
    if (fault === 'rejected') throw new StoreRejected(`${operation} ${key}: never`)
    if (fault === 'timeout') throw new StoreTimeout(`${operation} ${key}: no answer`)
    if (fault === 'hang') await this.#world.hang(signal)
    await this.#answer()
    return this.#world.healings === healings ? fault : undefined
  }

  async #answer(): Promise<void> {
    if (this.#dead) await never()
  }
}

const never = (): Promise<never> => new Promise(() => undefined)
