import { setTimeout as delay } from 'node:timers/promises'
import { KeyedMutex } from '../../base/concurrency.ts'
import { UsageError } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
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
} from '../contract.ts'
import { StoreCorrupt, StoreRejected, StoreSuperseded, StoreUnavailable } from '../errors.ts'
import { checkKey, checkObject, checkVersion, describeKey } from '../validate.ts'
import { bucketOf, checkBuckets } from './buckets.ts'
import * as riak from './client.ts'
import { RiakCluster } from './cluster.ts'
import { type Context, Contexts } from './contexts.ts'
import { Deadline } from './deadline.ts'
import { TransportError, toStoreError, verdictOn } from './failures.ts'
import type { RiakNode } from './node.ts'
import { encodeObject, highestVersion, type Resolved, resolve, versionText } from './objects.ts'
import type { Quorum, RiakOptions } from './url.ts'

/**
 * Riak stores 50 MiB and logs a warning from 5 MB on (object.size.warning_threshold); it holds a value several times in
 * memory while it moves it, and its own advice is to stay below a few MB. Larger files are in chunks of 1 MiB anyway.
 */
const MAX_VALUE_BYTES = 4 * 1024 * 1024

/** A write whose outcome is unknown is looked for and, where it is missing, repeated; so often in one operation. */
const MAX_WRITES = 3

/** Before the second and the third write, in milliseconds. */
const PAUSES_MS = [50, 200]

/** Heads read at once to tell live keys from deleted ones. */
const HEADS_AT_ONCE = 16

/** One key, as messages and requests name it. */
interface Target {
  readonly space: KeySpace
  readonly id: string
  readonly name: riak.ObjectName
  readonly label: string
}

/** What an operation has sent so far. */
interface Trace {
  outcomeUnknown: boolean
}

/** How to look for an object: the next step where one does not show what is known to be there. */
interface Step {
  readonly r: Quorum
  readonly notfoundOk: boolean
  /** Ask this node and no other. */
  readonly node?: RiakNode
}

export interface RiakStoreOptions {
  readonly namespace: string
  readonly log: Pick<Log, 'info' | 'warn'>
}

/** The `KeyValueStore` over Riak KV; docs/riak.md tells how it keeps its promises. */
export class RiakStore implements KeyValueStore {
  readonly url: string
  readonly capabilities: StoreCapabilities = {
    maxValueBytes: MAX_VALUE_BYTES,
    listing: true,
    consistent: false,
  }
  readonly #options: RiakOptions
  readonly #namespace: string
  readonly #log: Pick<Log, 'info' | 'warn'>
  readonly #cluster: RiakCluster
  readonly #contexts = new Contexts()
  readonly #mutex = new KeyedMutex<string>()
  readonly #closing = new AbortController()
  readonly #pending = new Set<Promise<unknown>>()
  #ready: Promise<void> | undefined

  constructor(options: RiakOptions, { namespace, log }: RiakStoreOptions) {
    this.url = options.url
    this.#options = options
    this.#namespace = namespace
    this.#log = log
    this.#cluster = new RiakCluster(options, log)
  }

  /**
   * Looks at the buckets, once it succeeds; every operation waits for that.
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
      this.#get(target, options.expect, deadline),
    )
  }

  async put(
    space: KeySpace,
    key: string,
    object: ObjectToStore,
    options: RequestOptions = {},
  ): Promise<void> {
    checkObject(space, key, object, MAX_VALUE_BYTES)
    const target = this.#target(space, key)
    await this.#operation(`put ${target.label}`, options, (deadline, trace) =>
      this.#exclusive(target, deadline, () => this.#put(target, object, deadline, trace)),
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
      this.#exclusive(target, deadline, () => this.#delete(target, version, deadline, trace)),
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
    await this.#operation('ping', options, (deadline) => this.#cluster.read(riak.ping, deadline))
  }

  async close(): Promise<void> {
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

  /** Writes of one key come one after the other, so that each knows the context of the one before. */
  #exclusive<T>({ id }: Target, deadline: Deadline, body: () => Promise<T>): Promise<T> {
    const turn = this.#mutex.run(id, async () => {
      if (deadline.signal.aborted) throw deadline.signal.reason
      return await body()
    })
    return orAborted(turn, deadline.signal)
  }

  #fetch({ name }: Target, step: Step & { head?: boolean }, deadline: Deadline): Promise<riak.RiakAnswer> {
    const { r, notfoundOk, head = false, node } = step
    const make = (timeoutMs: number) => riak.fetch(name, { r, notfoundOk, head, timeoutMs })
    return this.#cluster.read(make, deadline, node && [node])
  }

  /**
   * The steps in which an object is looked for. An empty replica does not count as an answer to the first. The last ones
   * ask for all replicas and count the empty ones, because only so does Riak wait for every replica and merge what it
   * finds: with notfound_ok=false the first empty one ends an r=all at once. And they ask every node, since nodes that
   * do not see each other answer from different replicas.
   */
  #steps(): Step[] {
    const { r } = this.#options
    const quorum: Step[] = r === 'quorum' || r === 'all' ? [] : [{ r: 'quorum', notfoundOk: false }]
    const everywhere = this.#cluster.nodes.map((node): Step => ({ r: 'all', notfoundOk: true, node }))
    return [{ r, notfoundOk: false }, ...quorum, { r: 'all', notfoundOk: true }, ...everywhere]
  }

  async #get(
    target: Target,
    expect: ObjectVersion | undefined,
    deadline: Deadline,
  ): Promise<StoredObject | undefined> {
    let best: Resolved = { kind: 'absent' }
    let failure: unknown
    for (const step of this.#steps()) {
      let answer: riak.RiakAnswer
      try {
        answer = await this.#fetch(target, step, deadline)
      } catch (error) {
        if (deadline.signal.aborted || verdictOn(error)?.as === 'rejected') throw error
        // Without an expectation there is nothing that another step could add to a failure on all nodes.
        if (expect === undefined && best.kind !== 'corrupt') throw error
        failure = error
        continue
      }
      const found = resolve(answer.contents)
      if (isEnough(found, expect)) {
        if (answer.contents.length > 1) await this.#heal(target, found, answer.vclock, deadline)
        return found.kind === 'object' ? found.object : undefined
      }
      if (best.kind !== 'corrupt') best = found
    }
    throw notFoundAsExpected(target, expect, best, failure)
  }

  /** Writes the winner over all siblings. Best effort: who reads next resolves them as well. */
  async #heal(
    target: Target,
    found: Resolved,
    vclock: Buffer | undefined,
    deadline: Deadline,
  ): Promise<void> {
    // A writer that is at work on the key folds the siblings itself.
    if (found.kind !== 'object' || vclock === undefined || this.#mutex.isLocked(target.id)) return
    const content = encodeObject(found.object)
    try {
      await this.#exclusive(target, deadline, () => this.#store(target, content, vclock, deadline))
    } catch (error) {
      this.#log.warn({ key: target.label, err: error }, 'siblings could not be replaced by their winner')
    }
  }

  #store(
    { name }: Target,
    content: riak.ContentToStore,
    vclock: Buffer | undefined,
    deadline: Deadline,
  ): Promise<riak.RiakAnswer> {
    const { w, dw } = this.#options
    return this.#cluster.write(
      (timeoutMs) => riak.store(name, content, vclock, { w, dw, timeoutMs }),
      deadline,
    )
  }

  /** What is under the key, tombstones included: versions and the causal context. */
  #fetchHead(target: Target, deadline: Deadline): Promise<riak.RiakAnswer> {
    return this.#fetch(target, { r: 'quorum', notfoundOk: true, head: true }, deadline)
  }

  async #put(target: Target, object: ObjectToStore, deadline: Deadline, trace: Trace): Promise<void> {
    const content = encodeObject(object)
    await this.#write(target, deadline, trace, async () => {
      const vclock = await this.#contextFor(target, object.version, deadline)
      const answer = await tracked(trace, () => this.#store(target, content, vclock, deadline))
      await this.#stored(target, object, content, answer, deadline)
    })
  }

  /**
   * Repeats `attempt` while its outcome is unknown; it reads the key first, except perhaps for the first time. A put that
   * is delivered twice with one context makes a sibling, and a put whose acknowledgement was lost may be there.
   */
  async #write(
    target: Target,
    deadline: Deadline,
    trace: Trace,
    attempt: (first: boolean) => Promise<void>,
  ): Promise<void> {
    for (let count = 1; ; count++) {
      try {
        await attempt(count === 1)
        return
      } catch (error) {
        this.#contexts.doubt(target.id)
        const verdict = verdictOn(error)
        const isWorthIt = verdict !== undefined && verdict.as !== 'rejected' && trace.outcomeUnknown
        if (!isWorthIt || count >= MAX_WRITES || deadline.signal.aborted) throw error
        await orAborted(delay(PAUSES_MS[count - 1]), deadline.signal)
      }
    }
  }

  /** The context under which a version may be written. @throws StoreSuperseded */
  async #contextFor(target: Target, version: ObjectVersion, deadline: Deadline): Promise<Buffer | undefined> {
    const written = this.#contexts.get(target.id)
    if (written !== undefined && !written.doubtful && compareVersions(written.version, version) <= 0)
      return written.vclock
    const { contents, vclock } = await this.#fetchHead(target, deadline)
    const highest = highestVersion(contents)
    assertNotSuperseded(target, highest, version)
    // Replicas that do not know what this process wrote: their context would not cover it.
    return written !== undefined && isOlder(highest, written.version) ? written.vclock : vclock
  }

  /** A put is acknowledged; its answer tells what else is under the key. */
  async #stored(
    target: Target,
    object: ObjectToStore,
    content: riak.ContentToStore,
    answer: riak.RiakAnswer,
    deadline: Deadline,
  ): Promise<void> {
    let { contents, vclock } = answer
    this.#contexts.forget(target.id)
    assertNotSuperseded(target, highestVersion(contents), object.version)
    if (contents.length > 1 && vclock !== undefined) {
      try {
        ;({ contents, vclock } = await this.#store(target, content, vclock, deadline))
      } catch (error) {
        this.#log.warn(
          { key: target.label, err: error },
          'siblings could not be replaced by the version just stored',
        )
        return
      }
      assertNotSuperseded(target, highestVersion(contents), object.version)
    }
    // A chunk is written once: its context would only push out that of something else.
    if (contents.length === 1 && vclock !== undefined && target.space !== 'chunks') {
      this.#contexts.set(target.id, object.version, vclock)
    }
  }

  async #delete(target: Target, version: ObjectVersion, deadline: Deadline, trace: Trace): Promise<void> {
    const { w, dw } = this.#options
    const written = this.#contexts.get(target.id)
    assertNotSuperseded(target, written?.version, version)
    await this.#write(target, deadline, trace, async (first) => {
      const context = await this.#contextToDelete(target, version, { written, first }, deadline)
      if (context === undefined) return
      const make = (timeoutMs: number) => riak.remove(target.name, context, { w, dw, timeoutMs })
      await tracked(trace, () => this.#cluster.write(make, deadline))
    })
    this.#contexts.forget(target.id)
  }

  /**
   * The context that a tombstone has to have, `undefined` where there is nothing to delete. A tombstone that has not seen a
   * write does not hold it down, and tombstones have no versions: so all replicas are asked, and what this process
   * wrote last counts where they show something older.
   */
  async #contextToDelete(
    target: Target,
    version: ObjectVersion,
    { written, first }: { written: Context | undefined; first: boolean },
    deadline: Deadline,
  ): Promise<Buffer | undefined> {
    const everywhere: Step = { r: 'all', notfoundOk: true }
    const { contents, vclock } = await this.#fetch(target, { ...everywhere, head: true }, deadline).catch(
      (error: unknown) => {
        if (deadline.signal.aborted) throw error
        return this.#fetchHead(target, deadline)
      },
    )
    const highest = highestVersion(contents)
    assertNotSuperseded(target, highest, version)
    // A tombstone after an attempt whose outcome is unknown is the one that this delete has put there.
    const isDone = !first && highest === undefined && vclock !== undefined
    if (
      written !== undefined &&
      !isDone &&
      (highest === undefined || compareVersions(highest, written.version) < 0)
    ) {
      return written.vclock
    }
    return contents.some(({ tombstone }) => !tombstone) ? vclock : undefined
  }

  async #isLive(space: KeySpace, key: string, what: string, options: RequestOptions): Promise<boolean> {
    const { contents } = await this.#operation(what, options, (deadline) =>
      this.#fetchHead(this.#target(space, key), deadline),
    )
    return contents.some(({ tombstone }) => !tombstone)
  }
}

function isOlder(found: ObjectVersion | undefined, version: ObjectVersion): boolean {
  return found === undefined || compareVersions(found, version) < 0
}

/** Whether an answer is as new as it has to be. */
function isEnough(found: Resolved, expect: ObjectVersion | undefined): boolean {
  if (found.kind === 'corrupt') return false
  if (expect === undefined) return true
  return found.kind === 'object' && compareVersions(found.object.version, expect) >= 0
}

function notFoundAsExpected(
  { label }: Target,
  expect: ObjectVersion | undefined,
  best: Resolved,
  failure: unknown,
): StoreCorrupt | StoreUnavailable {
  if (best.kind === 'corrupt') return new StoreCorrupt(`${label}: ${best.reason}`)
  const wanted = expect === undefined ? 'any version' : `version ${versionText(expect)}`
  const shown = best.kind === 'object' ? `version ${versionText(best.object.version)}` : 'nothing'
  return new StoreUnavailable(
    `${label}: ${wanted} was stored, the nodes that answer show ${shown}; it comes back with the nodes that hold it`,
    { cause: failure },
  )
}

function assertNotSuperseded(
  { label }: Target,
  found: ObjectVersion | undefined,
  version: ObjectVersion,
): void {
  if (found === undefined || compareVersions(found, version) <= 0) return
  throw new StoreSuperseded(
    `${label}: version ${versionText(found)} is there, which is newer than ${versionText(version)}`,
  )
}

/** Notes that a write may have taken effect, unless its failure says that it was not even sent. */
async function tracked<T>(trace: Trace, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    if (verdictOn(error)?.outcomeUnknown ?? true) trace.outcomeUnknown = true
    throw error
  }
}

/** Waits for work that others may wait for, too, and that goes on without this caller. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
