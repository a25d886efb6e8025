import { constants } from 'node:os'
import { FsError, isSystemError, toErrno, Unanswered } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import { within } from '../../base/turns.ts'
import { repeatable } from '../../base/write-probe.ts'
import type { FileSystem, KernelNotifier } from '../operations.ts'
import { AnswerWriter } from './answer.ts'
import { Body, ProtocolError } from './body.ts'
import { isBackBy, whenReady } from './back.ts'
import { BufferPool, type RequestBuffer } from './buffers.ts'
import { type FuseDevice, KernelDevice } from './device.ts'
import { FILE_OPERATIONS } from './file-operations.ts'
import {
  type Agreement,
  boundedMaxWrite,
  decodeInit,
  encodeInit,
  encodeMajor,
  fromState,
  negotiate,
  type SessionState,
  toState,
} from './init.ts'
import { Interrupts } from './interrupts.ts'
import { NODE_OPERATIONS } from './node-operations.ts'
import { CHANGES, LISTS } from './kinds.ts'
import { KernelNotifications, resendMessage } from './notifier.ts'
import type { Operation } from './operation.ts'
import { IN_HEADER_SIZE, InitFlag, Opcode } from './protocol.ts'
import type { Pending } from './pending.ts'
import { type Request, requestFrom } from './request.ts'
import type { SessionEnd, SessionOptions } from './session-options.ts'

const { EAGAIN, ECONNABORTED, EINTR, EIO, ENODEV, ENOENT, ENOSYS, EOPNOTSUPP, EPROTO } = constants.errno

/** Requests taken in one turn of the event loop, so that timers and I/O of the file system get theirs. */
const BATCH = 16
/**
 * How long the session goes on asking after the last request before it sleeps, in milliseconds. A caller that goes on
 * has its next request there within this time; waking a sleeping process costs more (three times the look-ups of one
 * caller, measured). Once per burst, so an idle mount costs nothing.
 */
const SPIN_MS = 0.05
const LEAST_BUFFERS = 8
/** Buffers of `maxWrite` bytes each: so many large WRITEs may wait for the file system before reading pauses. */
const DEFAULT_WRITE_BUFFERS = 32

/**
 * Serves one FUSE connection: takes requests off the device, has the file system perform them, and writes the answers.
 *
 * - Everything runs on the event loop; a file system that answers at once is answered in the same tick.
 * - A request is answered exactly once, also if its bytes make no sense or the file system throws what it should not.
 * - A session that takes over has every request that was read and not answered sent again (FUSE_NOTIFY_RESEND) before it
 *   reads the first one, so it never gets its own requests twice. The kernel finds the request of an answer by the whole
 *   `unique`, bit 63 included: fuse_resend() sets FUSE_UNIQUE_RESEND in req->in.h.unique, and fuse_dev_do_write() looks
 *   for `oh.unique & ~FUSE_INT_REQ_BIT` among those (fs/fuse/dev.c, since 6.9). So the answer carries what came, and the
 *   file system sees it without the bit.
 * - No read ever blocks, so `stop` has nothing to wait for but the file system.
 */
export class KernelSession {
  /** Resolves once requests can be served: INIT is answered, or was by a predecessor. Never rejects; see `done`. */
  readonly ready: Promise<SessionState>
  /** Resolves when nothing is served any more. Never rejects. */
  readonly done: Promise<SessionEnd>
  readonly #device: FuseDevice
  readonly #fileSystem: FileSystem
  readonly #log: SessionOptions['log']
  readonly #onInit: ((state: SessionState) => void) | undefined
  readonly #onWaited: ((operation: string, seconds: number) => void) | undefined
  readonly #ready: (changes: boolean) => Promise<void> | undefined
  readonly #maxWrite: number
  readonly #pool: BufferPool
  readonly #notifications: KernelNotifications
  readonly #interrupts: Interrupts
  readonly #pending = new Map<Request, Pending>()
  readonly #answer = new AnswerWriter()
  readonly #body = new Body()
  readonly #markReady: (state: SessionState) => void
  readonly #markDone: (end: SessionEnd) => void
  #agreement: Agreement | undefined
  #buffer: RequestBuffer | undefined
  #status: 'new' | 'serving' | 'paused' | 'ended' = 'new'
  #scheduled = false
  #spinUntil = 0
  #drained: (() => void) | undefined

  /** @throws Error if `state` is not a predecessor's */
  constructor(options: SessionOptions) {
    this.#device = options.device ?? new KernelDevice(options.fd)
    this.#fileSystem = options.fileSystem
    this.#log = options.log
    this.#onInit = options.onInit
    this.#onWaited = options.onWaited
    this.#ready = options.ready ?? (() => undefined)
    if (options.state !== undefined && options.state !== null) this.#agreement = fromState(options.state)
    this.#maxWrite = this.#agreement?.maxWrite ?? boundedMaxWrite(options.maxWrite)
    this.#pool = new BufferPool(this.#maxWrite, options.writeBuffers ?? DEFAULT_WRITE_BUFFERS)
    this.#notifications = new KernelNotifications(this.#device, options.log)
    this.#interrupts = new Interrupts((request) => this.#giveUp(request), options.isDying)
    const ready = Promise.withResolvers<SessionState>()
    const done = Promise.withResolvers<SessionEnd>()
    this.ready = ready.promise
    this.done = done.promise
    this.#markReady = ready.resolve
    this.#markDone = done.resolve
  }

  /** Tells the kernel what to forget; safe to call from within a handler. */
  get notifier(): KernelNotifier {
    return this.#notifications
  }

  /** Requests that wait for the file system. */
  get inFlight(): number {
    return this.#interrupts.waiting
  }

  /** Starts to serve. */
  start(): void {
    if (this.#status !== 'new') throw new Error('a session starts once')
    this.#status = 'serving'
    // Also without a state: a predecessor may have been killed between reading INIT and answering it.
    const resend = resendMessage()
    const resent = this.#device.write(resend, resend.length, undefined)
    if (this.#agreement) {
      this.#apply(this.#agreement)
      if (resent < 0 && resent !== -ENODEV) {
        this.#log.warn(
          { errno: -resent },
          'this kernel cannot send unanswered requests again: callers that wait for a killed worker go on waiting',
        )
      }
    }
    this.#device.watch(() => this.#schedule())
    this.#schedule()
  }

  /**
   * Takes no more requests and resolves when those that were taken are answered and all cache invalidations are sent.
   * The connection stays as it is: callers wait until a successor serves them.
   */
  async stop(): Promise<void> {
    if (this.#status === 'ended') return
    this.#end({ reason: 'stopped' })
    if (this.#interrupts.waiting > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
    }
    await this.#notifications.idle()
  }

  #end(end: SessionEnd): void {
    this.#status = 'ended'
    this.#device.unwatch()
    this.#markDone(end)
  }

  #apply(agreement: Agreement): void {
    this.#agreement = agreement
    this.#notifications.expireOnly = (agreement.flags & InitFlag.HAS_EXPIRE_ONLY) !== 0n
    this.#markReady(toState(agreement))
  }

  /** Not from the poll callback itself: code that runs there has no microtasks run behind it. */
  #schedule(): void {
    if (this.#scheduled || this.#status !== 'serving') return
    this.#scheduled = true
    setImmediate(() => this.#drain())
  }

  #drain(): void {
    this.#scheduled = false
    let taken = 0
    while (this.#status === 'serving' && taken < BATCH) {
      this.#buffer ??= this.#pool.take()
      if (!this.#buffer) {
        this.#pause()
        return
      }
      const count = this.#device.read(this.#buffer.bytes)
      if (count === -EAGAIN) break
      // ENOENT: the request was withdrawn while it was copied.
      if (count === -EINTR || count === -ENOENT) continue
      if (count < 0) {
        this.#readFailed(-count)
        return
      }
      taken += 1
      this.#take(this.#buffer, count)
    }
    if (this.#status !== 'serving') return
    const now = performance.now()
    if (taken > 0) this.#spinUntil = now + SPIN_MS
    if (now < this.#spinUntil) this.#schedule()
  }

  #readFailed(errno: number): void {
    this.#notifications.stop()
    this.#interrupts.stop()
    if (errno === ENODEV) this.#end({ reason: 'unmounted' })
    else if (errno === ECONNABORTED) this.#end({ reason: 'aborted' })
    else {
      const error = new Error(
        `reading /dev/fuse failed with errno ${errno}; the mount is not served any more`,
      )
      this.#log.error({ err: error }, error.message)
      this.#end({ reason: 'failed', error })
    }
  }

  #pause(): void {
    this.#status = 'paused'
    this.#device.unwatch()
    this.#log.warn(
      { requests: this.inFlight },
      'all write buffers wait for the file system; no request is taken until one is free',
    )
  }

  #giveBack(buffer: RequestBuffer): void {
    this.#pool.give(buffer)
    if (this.#status !== 'paused') return
    this.#status = 'serving'
    this.#device.watch(() => this.#schedule())
    this.#schedule()
  }

  /** One frame. Whatever is in it, nothing is thrown. */
  #take(buffer: RequestBuffer, count: number): void {
    const { view } = buffer
    if (count < IN_HEADER_SIZE) {
      this.#log.error({ bytes: count }, 'the kernel sent less than a request header')
      return
    }
    // total_extlen (7.38): extensions in units of 8 bytes, behind the body. None was agreed on.
    const end = count - view.getUint16(36, true) * 8
    const request = requestFrom(view)
    try {
      if (view.getUint32(0, true) !== count || end < IN_HEADER_SIZE) {
        throw new ProtocolError('EIO', `a header says ${view.getUint32(0, true)} bytes`)
      }
      this.#dispatch(request, this.#body.reset(buffer.bytes, view, IN_HEADER_SIZE, end))
    } catch (error) {
      this.#refuse(request, count, error)
    }
  }

  /** @throws ProtocolError, FsError of decoding */
  #dispatch(request: Request, body: Body): void {
    const operation = FILE_OPERATIONS.get(request.opcode) ?? NODE_OPERATIONS.get(request.opcode)
    if (operation) {
      if (!this.#agreement) throw new ProtocolError('EIO', 'a request came before INIT')
      faultPoint('fuse.request.received', request.opcode)
      this.#perform(request, operation, operation.decode(body, this.#agreement))
      return
    }
    switch (request.opcode) {
      case Opcode.FORGET:
        faultPoint('fuse.forget.received')
        this.#fileSystem.forget(request.node, body.uint64())
        break
      case Opcode.BATCH_FORGET: {
        const count = body.uint32()
        body.skip(4)
        for (let i = 0; i < count; i++) {
          const node = body.uint64()
          this.#fileSystem.forget(node, body.uint64())
        }
        break
      }
      case Opcode.INTERRUPT:
        this.#interrupts.interrupt(body.uint64())
        break
      case Opcode.INIT:
        this.#init(request, body)
        break
      case Opcode.NOTIFY_REPLY:
        break
      case Opcode.DESTROY:
        this.#reply(request, 0)
        break
      default:
        // The kernel takes ENOSYS as "never again" and has its own way: ACCESS is checked by default_permissions, POLL
        // is always ready, BMAP ends with EINVAL for the caller.
        this.#reply(request, ENOSYS)
    }
  }

  /** Ends a request whose bytes, or whose handling without an answer, went wrong. */
  #refuse(request: Request, bytes: number, error: unknown): void {
    const what = { opcode: request.opcode, unique: String(request.unique), bytes }
    const known = error instanceof FsError
    if (!known || error instanceof ProtocolError) {
      this.#log.error({ ...what, err: error }, 'a request of the kernel was refused')
    }
    switch (request.opcode) {
      case Opcode.FORGET:
      case Opcode.BATCH_FORGET:
      case Opcode.INTERRUPT:
      case Opcode.NOTIFY_REPLY:
        return
      default:
        this.#reply(request, known ? error.errno : EIO)
    }
    if (request.opcode === Opcode.INIT && known && error.errno === EPROTO) {
      this.#end({ reason: 'failed', error })
    }
  }

  #init(request: Request, body: Body): void {
    const init = decodeInit(body)
    const agreement = negotiate(init, this.#maxWrite)
    this.#answer.begin()
    if (!agreement) {
      encodeMajor(this.#answer)
      this.#send(request, 0)
      return
    }
    this.#onInit?.(toState(agreement))
    encodeInit(this.#answer, init, agreement, this.#device.pageSize)
    if (!this.#send(request, 0)) return
    this.#log.debug({ kernel: `7.${init.minor}`, ...toState(agreement) }, 'FUSE connection agreed on')
    this.#apply(agreement)
  }

  #perform(request: Request, operation: Operation, params: unknown): void {
    const changes = CHANGES.has(request.opcode)
    const asked = changes || LISTS.has(request.opcode) ? this.#ready(changes) : undefined
    const kind = asked ? 'again' : changes ? 'changes' : 'looks'
    const perform = repeatable(kind, () => operation.perform(this.#fileSystem, request, params))
    let result: unknown
    try {
      const begin = asked ? () => whenReady(asked, request, this.#canWait(), perform) : perform
      result = within(() => `${operation.name} of inode ${request.node}`, begin)
      if (result instanceof Promise) result = result.catch((error) => this.#whenBack(request, perform, error))
    } catch (error) {
      if (!(error instanceof Unanswered)) {
        this.#fail(request, operation, error)
        return
      }
      result = this.#whenBack(request, perform, error)
    }
    if (!(result instanceof Promise)) {
      this.#succeed(request, operation, params, result)
      return
    }
    let buffer: RequestBuffer | undefined
    if (this.#body.lent) {
      buffer = this.#buffer
      this.#buffer = undefined
    }
    const pending = { request, operation, params, buffer, since: performance.now() }
    this.#pending.set(request, pending)
    this.#interrupts.add(request)
    result.then(
      (value: unknown) => this.#settled(pending, true, value),
      (error: unknown) => this.#settled(pending, false, error),
    )
  }

  /**
   * What needs a disk that does not answer waits for it a while, and is then done from the beginning, like what a killed worker
   * left: whatever was begun has ended by then, and nothing takes effect twice. @throws the error
   */
  async #whenBack(request: Request, perform: () => unknown, refused: unknown): Promise<unknown> {
    let error = refused
    while (error instanceof Unanswered && this.#canWait()) {
      if (!(await isBackBy(error.back, request))) break
      if (!error.untouched) request.resent = true
      try {
        return await perform()
      } catch (next) {
        error = next
      }
    }
    throw error
  }

  /** Requests that lend their buffers must not use them all up: then nothing else would be served. */
  #canWait(): boolean {
    return this.#pool.left >= LEAST_BUFFERS
  }

  /** The file system has answered later. */
  #settled(pending: Pending, succeeded: boolean, outcome: unknown): void {
    const { request, operation, params, buffer, since } = pending
    const wanted = this.#pending.delete(request)
    if (wanted) {
      this.#interrupts.delete(request)
      this.#onWaited?.(operation.name, (performance.now() - since) / 1000)
    }
    if (!succeeded) {
      if (wanted) this.#fail(request, operation, outcome)
    } else if (wanted) {
      this.#succeed(request, operation, params, outcome)
    } else {
      this.#undo(request, operation, params, outcome)
    }
    if (buffer) this.#giveBack(buffer)
    this.#checkDrained()
  }

  #checkDrained(): void {
    if (this.#interrupts.waiting > 0) return
    this.#drained?.()
    this.#drained = undefined
  }

  /** The caller is being killed. What changes nothing is answered now, whatever the file system does. */
  #giveUp(request: Request): void {
    request.abort()
    if (this.#pending.get(request)?.operation.readOnly !== true) return
    setImmediate(() => {
      if (!this.#pending.delete(request)) return
      this.#interrupts.delete(request)
      this.#reply(request, EINTR)
      this.#checkDrained()
    })
  }

  #succeed(request: Request, operation: Operation, params: unknown, result: unknown): void {
    this.#answer.begin()
    try {
      operation.encode(this.#answer, result, params)
    } catch (error) {
      this.#fail(request, operation, error)
      this.#undo(request, operation, params, result)
      return
    }
    if (!this.#send(request, 0)) this.#undo(request, operation, params, result)
  }

  #fail(request: Request, operation: Operation, error: unknown): void {
    // What the operating system answered to the file system is what the caller is to hear.
    if (!(error instanceof FsError || isSystemError(error))) {
      this.#log.error(
        {
          operation: operation.name,
          node: String(request.node),
          unique: String(request.unique),
          err: error,
        },
        'the file system failed in a way that it should not; the caller gets EIO',
      )
      this.#reply(request, EIO)
      return
    }
    // ENOSYS is a word of the protocol: the kernel would never ask again, for any file. Only LSEEK has a way of its own
    // that is right for every file.
    const own = toErrno(error)
    this.#reply(request, own === ENOSYS && request.opcode !== Opcode.LSEEK ? EOPNOTSUPP : own)
  }

  #reply(request: Request, errno: number): void {
    this.#answer.begin()
    this.#send(request, errno)
  }

  /** Sends what the writer holds. Whether the kernel took it. */
  #send(request: Request, errno: number): boolean {
    const answer = this.#answer
    answer.finish(request.id, errno)
    faultPoint('fuse.request.answering', request.opcode)
    const result = this.#device.write(answer.head, answer.headLength, answer.payload)
    if (result === -ENODEV) return false
    faultPoint('fuse.request.answered', request.opcode)
    // ENOENT: the kernel has ended the request by itself.
    if (result < 0 && result !== -ENOENT) {
      this.#log.error(
        { errno: -result, opcode: request.opcode, unique: String(request.unique) },
        'the kernel did not take an answer; the caller gets EIO',
      )
      // Without an answer the caller would wait forever.
      answer.finish(request.id, EIO)
      this.#device.write(answer.head, answer.headLength, undefined)
    }
    this.#answered(request)
    return result >= 0
  }

  #answered(request: Request): void {
    try {
      this.#fileSystem.answered?.(request.unique)
    } catch (error) {
      this.#log.error({ unique: String(request.unique), err: error }, 'the file system failed in answered()')
    }
  }

  #undo(request: Request, operation: Operation, params: unknown, result: unknown): void {
    const failed = (error: unknown): void =>
      this.#log.error({ operation: operation.name, err: error }, 'an answer could not be taken back')
    try {
      const undone = operation.undo?.(this.#fileSystem, request, result, params)
      if (undone instanceof Promise) undone.catch(failed)
    } catch (error) {
      failed(error)
    }
  }
}
