import { UsageError } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
import type {
  GetOptions,
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
  StoreCapabilities,
  StoredObject,
} from '../contract.ts'
import { StoreRejected, StoreUnavailable } from '../errors.ts'
import { checkKey, checkObject, checkVersion, describeKey } from '../validate.ts'
import { Access, type Target } from './access.ts'
import { bucketOf, checkBuckets } from './buckets.ts'
import { ping } from './client.ts'
import { RiakCluster } from './cluster.ts'
import { Deadline, orAborted } from './deadline.ts'
import { TransportError, toStoreError } from './failures.ts'
import { Reader } from './reader.ts'
import type { RiakOptions } from './url.ts'
import { SWAP_SETTLE_MS, type Trace, Writer } from './writer.ts'

/**
 * Riak stores 50 MiB and logs a warning from 5 MB on (object.size.warning_threshold); it holds a value several times in
 * memory while it moves it, and its own advice is to stay below a few MB. Larger files are in chunks of 1 MiB anyway.
 */
const MAX_VALUE_BYTES = 4 * 1024 * 1024

/** Heads read at once to tell live keys from deleted ones. */
const HEADS_AT_ONCE = 16

/** How often deletes that did not reach everybody are looked at, and for how long nothing must come back of one. */
const LOOK_AGAIN = { everyMs: 30_000, settleMs: 600_000 }

export interface RiakStoreOptions {
  readonly namespace: string
  /** For tests. */
  readonly lookAgain?: typeof LOOK_AGAIN
  readonly log: Pick<Log, 'info' | 'warn'>
}

/** The `KeyValueStore` over Riak KV; docs/riak.md tells how it keeps its promises. */
export class RiakStore implements KeyValueStore {
  readonly url: string
  readonly capabilities: StoreCapabilities
  readonly #options: RiakOptions
  readonly #namespace: string
  readonly #cluster: RiakCluster
  readonly #access: Access
  readonly #reader: Reader
  readonly #writer: Writer
  readonly #closing = new AbortController()
  readonly #pending = new Set<Promise<unknown>>()
  readonly #lookAgain: NodeJS.Timeout
  #ready: Promise<void> | undefined
  #isLooking = false

  constructor(options: RiakOptions, { namespace, lookAgain = LOOK_AGAIN, log }: RiakStoreOptions) {
    this.url = options.url
    this.#options = options
    this.#namespace = namespace
    this.#cluster = new RiakCluster(options, log)
    this.#access = new Access(this.#cluster, options)
    this.capabilities = {
      maxValueBytes: MAX_VALUE_BYTES,
      listing: true,
      replaceSettleMs: this.#access.keepsSiblings ? 0 : SWAP_SETTLE_MS,
      consistent: false,
    }
    this.#writer = new Writer(this.#access, log)
    this.#reader = new Reader(this.#access, (...siblings) => this.#writer.heal(...siblings))
    const { everyMs, settleMs } = lookAgain
    this.#lookAgain = setInterval(() => void this.#lookAgainAtDeletes(settleMs), everyMs).unref()
  }

  /**
   * Looks at the buckets until it has succeeded once; every operation waits for that.
   * @throws UsageError, RiakError, TransportError
   */
  prepare(): Promise<void> {
    this.#ready ??= this.#checkBuckets().catch((error: unknown) => {
      // The next operation looks again: the cluster comes back, an operator corrects the type.
      this.#ready = undefined
      throw error
    })
    return this.#ready
  }

  async get(space: KeySpace, key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    checkKey(space, key)
    const target = this.#target(space, key)
    return this.#operation(`get ${target.label}`, options, (deadline) =>
      this.#reader.get(target, options, deadline),
    )
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options: PutOptions = {}): Promise<void> {
    checkObject(space, key, object, MAX_VALUE_BYTES)
    const target = this.#target(space, key)
    await this.#operation(`put ${target.label}`, options, (deadline, trace) =>
      this.#writer.put(target, object, options, deadline, trace),
    )
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options: RequestOptions = {},
  ): Promise<void> {
    checkKey(space, key)
    checkVersion(space, key, version)
    const target = this.#target(space, key)
    await this.#operation(`delete ${target.label}`, options, (deadline, trace) =>
      this.#writer.delete(target, version, deadline, trace),
    )
  }

  /**
   * Reads through every partition of the cluster and then the head of every key, because Riak lists deleted keys too.
   * For tools, not for daily use.
   */
  async *keys(space: KeySpace, options: RequestOptions = {}): AsyncIterable<string> {
    const what = `list ${space}`
    await this.#operation(what, options, () => Promise.resolve())
    const bucket = bucketOf(this.#options.type, this.#namespace, space)
    const signals = [options.signal, this.#closing.signal]
    const pages = this.#cluster.listKeys(bucket, this.#options.timeoutMs, signals)
    try {
      for (;;) {
        const page = await this.#settle(what, pages.next())
        if (page.done === true) return
        for (let at = 0; at < page.value.length; at += HEADS_AT_ONCE) {
          const keys = page.value.slice(at, at + HEADS_AT_ONCE)
          const live = await Promise.all(keys.map((key) => this.#isLive(space, key, what, options)))
          yield* keys.filter((_, index) => live[index])
        }
      }
    } finally {
      // Whoever stops reading early leaves a connection behind that goes on sending.
      await pages.return(undefined)
    }
  }

  async ping(options: RequestOptions = {}): Promise<void> {
    await this.#operation('ping', options, (deadline) => this.#cluster.read(ping, deadline))
  }

  async close(): Promise<void> {
    clearInterval(this.#lookAgain)
    this.#closing.abort(new TransportError('the store is closed', { nodeIsIll: false }))
    this.#cluster.close()
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending)
  }

  #target(space: KeySpace, key: string): Target {
    const bucket = bucketOf(this.#options.type, this.#namespace, space)
    return { space, id: `${space}/${key}`, name: { ...bucket, key }, label: describeKey(space, key) }
  }

  async #checkBuckets(): Promise<void> {
    const { type, r, w, dw, timeoutMs } = this.#options
    using deadline = new Deadline(timeoutMs, [this.#closing.signal])
    const wanted = { type, namespace: this.#namespace, quorums: { r, w, dw } }
    await checkBuckets(this.#cluster, wanted, deadline)
  }

  async #lookAgainAtDeletes(settleMs: number): Promise<void> {
    if (this.#isLooking || this.#closing.signal.aborted) return
    this.#isLooking = true
    const newDeadline = (): Deadline => new Deadline(this.#options.timeoutMs, [this.#closing.signal])
    try {
      await this.#settle('look at deletes', this.#writer.lookAgain(settleMs, newDeadline))
    } finally {
      this.#isLooking = false
    }
  }

  /** Runs one operation of a caller within its time. @throws StoreError */
  async #operation<T>(
    what: string,
    { signal }: RequestOptions,
    body: (deadline: Deadline, trace: Trace) => Promise<T>,
  ): Promise<T> {
    if (this.#closing.signal.aborted) throw new StoreUnavailable(`${what}: the store is closed`)
    if (signal?.aborted === true) {
      throw new StoreUnavailable(`${what}: given up before it began`, { cause: signal.reason })
    }
    const trace: Trace = { outcomeUnknown: false }
    const run = async (): Promise<T> => {
      using deadline = new Deadline(this.#options.timeoutMs, [signal, this.#closing.signal])
      await orAborted(this.prepare(), deadline.signal)
      return await body(deadline, trace)
    }
    return this.#settle(what, run(), trace)
  }

  /** Keeps track of work until it ends, and turns its failure into what the contract has. */
  async #settle<T>(what: string, work: Promise<T>, trace?: Trace): Promise<T> {
    this.#pending.add(work)
    try {
      return await work
    } catch (error) {
      if (error instanceof UsageError) throw new StoreRejected(`${what}: ${error.message}`, { cause: error })
      const failure = toStoreError(what, error, trace?.outcomeUnknown ?? false)
      // Whatever was on its way, a closed store is a closed store.
      if (!this.#closing.signal.aborted || failure instanceof StoreUnavailable) throw failure
      throw new StoreUnavailable(failure.message, { cause: error, outcomeUnknown: failure.outcomeUnknown })
    } finally {
      this.#pending.delete(work)
    }
  }

  async #isLive(space: KeySpace, key: string, what: string, options: RequestOptions): Promise<boolean> {
    const { contents } = await this.#operation(what, options, (deadline) =>
      this.#access.fetchHead(this.#target(space, key), deadline),
    )
    return contents.some(({ tombstone }) => !tombstone)
  }
}
