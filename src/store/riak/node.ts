import {
  type CircuitBreakerPolicy,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  handleWhen,
  type IBackoff,
} from 'cockatiel'
import type { Log } from '../../observe/log.ts'
import { fetch, type RiakAnswer, type RiakCommand } from './client.ts'
import { Connection } from './connection.ts'
import { Deadline } from './deadline.ts'
import { TransportError, verdictOn } from './failures.ts'
import { describeNode, type NodeAddress, type TlsOptions } from './url.ts'

/** Where trial objects go; nothing of ferryfs lies in this bucket. */
export const TRIAL_BUCKET = 'ferryfs.doctor'

/** A read that any vnode can answer. A node that has just started answers a ping long before that. */
export function probe(type: string, timeoutMs = PROBE_TIMEOUT_MS): RiakCommand<RiakAnswer> {
  const options = { r: 'one', notfoundOk: true, head: true, timeoutMs } as const
  return fetch({ type, bucket: TRIAL_BUCKET, key: 'probe' }, options)
}

export interface NodeSettings {
  /** Bucket type of what is asked for while the node is out. */
  readonly type: string
  readonly tls: TlsOptions | undefined
  readonly connections: number
  readonly timeoutMs: number
  readonly log: Pick<Log, 'info' | 'warn'>
}

/** So many failures in a row take a node out of the choice. Fewer would do so for one lost packet. */
const FAILURES_TO_OPEN = 3

/** How long a node is out before the next probe goes there, in milliseconds, growing; and how long that may take. */
const OUT_FOR = { initialDelay: 250, maxDelay: 5000 }
const PROBE_TIMEOUT_MS = 2000

/**
 * The breaker itself has nobody wait: it goes by the clock of the day, and after a step back of that clock would keep a node
 * out for as long as the step was.
 */
const AT_ANY_TIME: IBackoff<unknown> = { duration: Number.NEGATIVE_INFINITY, next: () => AT_ANY_TIME }

/** A request without an answer for this part of an operation's time (two seconds of ten) makes a node look ill. */
const ILL_AFTER_PART = 5

/** Requests that wait for a connection of one node; more are refused at once instead of heaping up. */
const MAX_WAITING = 1024

/** Of a new sample in the average of durations, and how fast the average is forgotten: a slow node gets another try. */
const SAMPLE_WEIGHT = 0.2
const FORGET_HALF_LIFE_MS = 5000

interface Waiting {
  readonly resolve: (connection: Connection | undefined) => void
  readonly reject: (error: Error) => void
}

/**
 * One node: its connections, whether it is well, and how long its answers take. Requests of callers never probe a node
 * that is out; one of its own does, so that nobody waits for a dead node.
 */
export class RiakNode {
  readonly name: string
  readonly #address: NodeAddress
  readonly #settings: NodeSettings
  readonly #breaker: CircuitBreakerPolicy
  readonly #idle: Connection[] = []
  readonly #busy = new Set<Connection>()
  readonly #waiting: Waiting[] = []
  readonly #closing = new AbortController()
  #opening = 0
  #probe: NodeJS.Timeout | undefined
  #averageMs = 0
  #averageAt = 0

  constructor(address: NodeAddress, settings: NodeSettings) {
    this.name = describeNode(address)
    this.#address = address
    this.#settings = settings
    this.#breaker = circuitBreaker(
      handleWhen((error) => verdictOn(error)?.nodeIsIll ?? false),
      { halfOpenAfter: AT_ANY_TIME, breaker: new ConsecutiveBreaker(FAILURES_TO_OPEN) },
    )
    this.#breaker.onBreak(() => this.#out())
    this.#breaker.onReset(() => this.#back())
  }

  /** Not out: requests may go there. */
  get isWell(): boolean {
    return this.#breaker.state === CircuitState.Closed
  }

  get #lastFailure(): string {
    const failure = this.#breaker.lastFailure
    return failure !== undefined && 'error' in failure ? failure.error.message : ''
  }

  /** What a request is likely to wait here, for comparison with other nodes only. */
  get cost(): number {
    const age = performance.now() - this.#averageAt
    const average = this.#averageMs * 0.5 ** (age / FORGET_HALF_LIFE_MS)
    return (this.#busy.size + this.#opening + this.#waiting.length + 1) * (average + 0.1)
  }

  /** Sends one request over one connection, once. @throws RiakError, TransportError */
  async run<T>(command: RiakCommand<T>, signal: AbortSignal): Promise<T> {
    if (!this.isWell)
      throw TransportError.unsent(`${this.name} is left alone until it serves: ${this.#lastFailure}`)
    return this.#breaker.execute(() => this.#runOnce(command, signal))
  }

  /** A connection of its own, for answers that come in many parts. The caller destroys it. */
  connect(signal: AbortSignal): Promise<Connection> {
    return Connection.open(this.#address, this.#settings.tls, signal)
  }

  close(): void {
    clearTimeout(this.#probe)
    const error = new TransportError('the store is closed', { nodeIsIll: false })
    this.#closing.abort(error)
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error)
    for (const connection of [...this.#idle, ...this.#busy]) connection.destroy()
    this.#idle.length = 0
  }

  async #runOnce<T>(command: RiakCommand<T>, signal: AbortSignal): Promise<T> {
    const connection = await this.#acquire(signal)
    const start = performance.now()
    try {
      return await connection.run(command, signal)
    } catch (error) {
      throw this.#blame(error, performance.now() - start)
    } finally {
      // A failure counts with the time that it took: a node that runs into deadlines is a slow one.
      this.#measured(performance.now() - start)
      this.#release(connection)
    }
  }

  /**
   * A deadline that comes soon after the request went out says nothing about the node: most of the time had gone by
   * before, in a queue or on other nodes.
   */
  #blame(error: unknown, elapsedMs: number): unknown {
    const isTimely = elapsedMs >= this.#settings.timeoutMs / ILL_AFTER_PART
    if (isTimely || !(error instanceof TransportError) || !error.ranOut) return error
    return new TransportError(error.message, { ...error.verdict, nodeIsIll: false }, { cause: error })
  }

  #measured(milliseconds: number): void {
    const weight = this.#averageAt === 0 ? 1 : SAMPLE_WEIGHT
    this.#averageMs += (milliseconds - this.#averageMs) * weight
    this.#averageAt = performance.now()
  }

  async #acquire(signal: AbortSignal): Promise<Connection> {
    const idle = this.#takeIdle()
    if (idle !== undefined) return idle
    if (this.#busy.size + this.#opening < this.#settings.connections) return this.#open(signal)
    if (this.#waiting.length >= MAX_WAITING) {
      throw new TransportError(`${this.name}: ${MAX_WAITING} requests wait for a connection already`, {
        outcomeUnknown: false,
        nodeIsIll: false,
      })
    }
    const handedOver = await this.#wait(signal)
    return handedOver ?? this.#open(signal)
  }

  #takeIdle(): Connection | undefined {
    for (;;) {
      const connection = this.#idle.pop()
      if (connection === undefined) return undefined
      if (!connection.usable) continue
      this.#busy.add(connection)
      return connection
    }
  }

  async #open(signal: AbortSignal): Promise<Connection> {
    this.#opening++
    const start = performance.now()
    try {
      using deadline = new Deadline(this.#settings.timeoutMs, [signal, this.#closing.signal])
      const connection = await this.connect(deadline.signal)
      if (this.#closing.signal.aborted) {
        connection.destroy()
        throw this.#closing.signal.reason
      }
      this.#busy.add(connection)
      return connection
    } catch (error) {
      // The place is free: whoever waits tries for itself.
      queueMicrotask(() => this.#waiting.shift()?.resolve(undefined))
      throw this.#blame(error, performance.now() - start)
    } finally {
      this.#opening--
    }
  }

  #wait(signal: AbortSignal): Promise<Connection | undefined> {
    return new Promise((resolve, reject) => {
      const end = (): void => signal.removeEventListener('abort', abort)
      const waiting: Waiting = {
        resolve: (connection) => {
          end()
          resolve(connection)
        },
        reject: (error) => {
          end()
          reject(error)
        },
      }
      const abort = (): void => {
        const at = this.#waiting.indexOf(waiting)
        if (at >= 0) this.#waiting.splice(at, 1)
        // It had not been sent, whatever the reason is; and a full pool says nothing about the node.
        const verdict = { outcomeUnknown: false, nodeIsIll: false }
        waiting.reject(new TransportError(`${this.name}: no connection was free in time`, verdict))
      }
      signal.addEventListener('abort', abort, { once: true })
      this.#waiting.push(waiting)
      if (signal.aborted) abort()
    })
  }

  #release(connection: Connection): void {
    this.#busy.delete(connection)
    const next = this.#waiting.shift()
    if (!connection.usable) {
      next?.resolve(undefined)
    } else if (next === undefined) {
      this.#idle.push(connection)
    } else {
      this.#busy.add(connection)
      next.resolve(connection)
    }
  }

  /** The breaker has opened, or a probe has failed: no request goes here until a probe comes through. */
  #out(): void {
    // What is idle may be as dead as what failed, and the next to use it would wait for nothing.
    for (const connection of this.#idle.splice(0)) connection.destroy()
    if (this.#probe !== undefined || this.#closing.signal.aborted) return
    this.#settings.log.warn(
      { node: this.name },
      'a Riak node fails; requests go to the others until it answers',
    )
    this.#probeAfter(new ExponentialBackoff(OUT_FOR).next())
  }

  #back(): void {
    clearTimeout(this.#probe)
    this.#probe = undefined
    // What it took before it failed says nothing about now.
    this.#averageAt = 0
    this.#averageMs = 0
    this.#settings.log.info({ node: this.name }, 'the Riak node answers again')
  }

  #probeAfter(pause: IBackoff<unknown>): void {
    this.#probe = setTimeout(() => void this.#probeNow(pause), pause.duration).unref()
  }

  async #probeNow(pause: IBackoff<unknown>): Promise<void> {
    try {
      await this.#breaker.execute(() => this.#ask())
    } catch {
      // Still out, or an answer that is no sign of illness; the breaker knows.
    }
    if (!this.isWell && !this.#closing.signal.aborted) this.#probeAfter(pause.next(undefined))
  }

  /** An answer that comes too late is a sign of illness, whatever part of an operation's time it had. */
  async #ask(): Promise<void> {
    using deadline = new Deadline(PROBE_TIMEOUT_MS, [this.#closing.signal])
    try {
      await this.#runOnce(probe(this.#settings.type), deadline.signal)
    } catch (error) {
      if (!(error instanceof TransportError)) throw error
      throw new TransportError(error.message, { ...error.verdict, nodeIsIll: true }, { cause: error })
    }
  }
}
