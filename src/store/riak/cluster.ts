import type { Log } from '../../observe/log.ts'
import { type BucketName, listKeys, type RiakCommand } from './client.ts'
import type { Connection } from './connection.ts'
import { Deadline } from './deadline.ts'
import { RiakError, TransportError, verdictOn } from './failures.ts'
import { RiakNode } from './node.ts'
import type { RiakOptions } from './url.ts'

/** Builds the request for one attempt; `timeoutMs` is what the attempt has, so that the server gives up with it. */
export type MakeCommand<T> = (timeoutMs: number) => RiakCommand<T>

/**
 * The nodes of the URL as one: chooses by health and load, and goes on to the next where that is safe. The client library's
 * cluster takes nodes in turn, also the slow ones, and repeats writes.
 */
export class RiakCluster {
  readonly nodes: readonly RiakNode[]
  /** Operation → nodes that have failed it. */
  readonly #failed = new WeakMap<Deadline, Set<RiakNode>>()

  constructor({ nodes, type, tls, connections, timeoutMs }: RiakOptions, log: Pick<Log, 'info' | 'warn'>) {
    this.nodes = nodes.map((address) => new RiakNode(address, { type, tls, connections, timeoutMs, log }))
  }

  /**
   * Asks one node after the other until one answers: for requests that change nothing. With `first` in that order and
   * no other, without it the nodes that are well and least loaded first.
   * @throws RiakError, TransportError: what the last node said, or at once what no other would say otherwise
   */
  async read<T>(make: MakeCommand<T>, deadline: Deadline, first?: readonly RiakNode[]): Promise<T> {
    return this.#attempts(make, deadline, first ?? this.#byCost(deadline), () => true)
  }

  /**
   * Sends a request that changes something to one node, and to another only if nothing was sent to the one before, or if that says
   * that it has done nothing, as one does that has just started.
   * @throws RiakError, TransportError; whoever calls reads before it writes again
   */
  async write<T>(make: MakeCommand<T>, deadline: Deadline): Promise<T> {
    const mayRepeat = (error: unknown): boolean =>
      verdictOn(error)?.outcomeUnknown === false && verdictOn(error)?.as === 'unavailable'
    return this.#attempts(make, deadline, this.#byCost(deadline), mayRepeat)
  }

  /**
   * Pages of the keys of a bucket, from one node over a connection of its own. `timeoutMs` is for each page, because the
   * whole takes as long as there are keys.
   */
  async *listKeys(
    bucket: BucketName,
    timeoutMs: number,
    signals: readonly (AbortSignal | undefined)[],
  ): AsyncGenerator<readonly string[]> {
    using start = new Deadline(timeoutMs, signals)
    const connection = await this.#connect(start)
    const pages = new Pages(connection)
    try {
      using end = new Deadline(LISTING_LIMIT_MS, signals)
      connection
        .run(listKeys(bucket), end.signal, (page) => pages.add(page))
        .then(
          (last) => pages.end(last),
          (error: unknown) => pages.fail(error),
        )
      for (;;) {
        const page = await pages.next(timeoutMs)
        if (page === undefined) return
        yield page
      }
    } finally {
      connection.destroy()
    }
  }

  close(): void {
    for (const node of this.nodes) node.close()
  }

  async #connect(deadline: Deadline): Promise<Connection> {
    let failure: unknown
    for (const node of this.#byCost(deadline)) {
      try {
        return await node.connect(deadline.signal)
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  async #attempts<T>(
    make: MakeCommand<T>,
    deadline: Deadline,
    nodes: readonly RiakNode[],
    mayRepeat: (error: unknown) => boolean,
  ): Promise<T> {
    // One node alone gets a second try: its connection may be what is broken.
    const order = nodes.length === 1 ? [...nodes, ...nodes] : nodes
    let failure: unknown
    for (const [index, node] of order.entries()) {
      using part = deadline.part(shareOf(deadline.remainingMs, order.length - index))
      try {
        // 0 is no limit to Riak.
        return await node.run(make(Math.max(1, Math.ceil(part.remainingMs))), part.signal)
      } catch (error) {
        // What a node says tells more than that another one cannot be reached.
        if (!(failure instanceof RiakError)) failure = error
        const failed = this.#failed.get(deadline) ?? new Set()
        this.#failed.set(deadline, failed.add(node))
        if (deadline.signal.aborted || verdictOn(error)?.as === 'rejected' || !mayRepeat(error)) break
      }
    }
    throw failure
  }

  /** Those that have failed within the same operation come after those that have not, those that are out last of all. */
  #byCost(deadline: Deadline): RiakNode[] {
    const failed = this.#failed.get(deadline)
    const costs = new Map(
      this.nodes.map((node) => [
        node,
        node.isWell ? node.cost + (failed?.has(node) ? FAILED_COST : 0) : Number.POSITIVE_INFINITY,
      ]),
    )
    return [...this.nodes].sort((a, b) => {
      const [left, right] = [costs.get(a) ?? 0, costs.get(b) ?? 0]
      return left === right ? 0 : left - right
    })
  }
}

/** More than any node's cost. */
const FAILED_COST = 1e12

/** No listing goes on for longer: an hour is a hundred million keys. */
const LISTING_LIMIT_MS = 3_600_000

/** What is left goes to the attempts that are left, with the first ones getting more: they mostly succeed. */
function shareOf(remainingMs: number, attemptsLeft: number): number {
  return attemptsLeft <= 1 ? remainingMs : remainingMs / Math.min(attemptsLeft, 2)
}

/** Pages that have come and are not yet taken; the connection is held while there are many. */
class Pages {
  readonly #connection: Connection
  readonly #pages: (readonly string[])[] = []
  #ended = false
  #failure: unknown
  #wake: (() => void) | undefined

  constructor(connection: Connection) {
    this.#connection = connection
  }

  add(page: readonly string[]): void {
    this.#pages.push(page)
    if (this.#pages.length > MAX_PAGES) this.#connection.hold(true)
    this.#wake?.()
  }

  end(page: readonly string[]): void {
    this.#ended = true
    this.add(page)
  }

  fail(error: unknown): void {
    this.#ended = true
    this.#failure = error
    this.#wake?.()
  }

  /** The next page, `undefined` after the last. @throws RiakError, TransportError */
  async next(timeoutMs: number): Promise<readonly string[] | undefined> {
    if (this.#pages.length === 0 && !this.#ended) {
      this.#connection.hold(false)
      await this.#arrival(timeoutMs)
    }
    const page = this.#pages.shift()
    if (page === undefined && this.#failure !== undefined) throw this.#failure
    return page
  }

  #arrival(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new TransportError(`no keys for ${timeoutMs / 1000} s`, { as: 'timeout' }))
      }, timeoutMs)
      this.#wake = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
    })
  }
}

/** About 100 keys each (riak_kv's fold buffer). */
const MAX_PAGES = 100
