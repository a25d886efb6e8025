import { constants } from 'node:os'
import type { Log } from '../../observe/log.ts'
import type { KernelNotifier } from '../operations.ts'
import type { FuseDevice } from './device.ts'
import { INVAL_ENTRY_EXPIRE_ONLY, NotifyCode, OUT_HEADER_SIZE } from './protocol.ts'

const { ENOENT, ENODEV, ENOTDIR, EEXIST } = constants.errno

/** Answers that are no failure: what was to be forgotten is not there, or the connection is not. */
const HARMLESS = new Set([-ENOENT, -ENOTDIR, -EEXIST, -ENODEV])

interface NodeRange {
  readonly node: bigint
  offset: number
  length: number
  /** Told when it has been sent. */
  readonly waiting: Array<() => void>
}

interface Message {
  readonly bytes: Buffer
  /** For the log. */
  readonly what: object
  readonly waiting: ReadonlyArray<() => void>
}

function message(code: number, size: number): { bytes: Buffer; view: DataView } {
  const memory = new ArrayBuffer(OUT_HEADER_SIZE + size)
  const view = new DataView(memory)
  view.setUint32(0, memory.byteLength, true)
  view.setInt32(4, code, true)
  // unique stays 0: this is no answer.
  return { bytes: Buffer.from(memory), view }
}

/** FUSE_NOTIFY_RESEND: every request that was read and not answered is queued again. */
export function resendMessage(): Buffer {
  return message(NotifyCode.RESEND, 0).bytes
}

/** `struct fuse_notify_inval_inode_out` */
function invalNode({ node, offset, length }: Omit<NodeRange, 'waiting'>): Buffer {
  const { bytes, view } = message(NotifyCode.INVAL_INODE, 24)
  view.setBigUint64(16, node, true)
  view.setBigInt64(24, BigInt(offset), true)
  view.setBigInt64(32, BigInt(length), true)
  return bytes
}

/** `struct fuse_notify_inval_entry_out`, the name and a NUL that `namelen` does not count */
function invalName(parent: bigint, name: Buffer, expireOnly: boolean): Buffer {
  const { bytes, view } = message(NotifyCode.INVAL_ENTRY, 16 + name.length + 1)
  view.setBigUint64(16, parent, true)
  view.setUint32(24, name.length, true)
  view.setUint32(28, expireOnly ? INVAL_ENTRY_EXPIRE_ONLY : 0, true)
  name.copy(bytes, 32)
  return bytes
}

/**
 * Tells the kernel what to forget. The kernel takes page locks and the directory's lock for it, which a caller may hold
 * whose request waits for this very process; so the event loop never writes these messages itself (but those that are of
 * attributes alone, and of a node that cannot be going away): they go one after the
 * other from a thread of the pool, which may wait while requests are answered. Never more than one thread waits (the pool
 * needs two). Messages that wait are merged by node and by name, so their number is bounded by what the kernel caches.
 */
export class KernelNotifications implements KernelNotifier {
  readonly #device: FuseDevice
  readonly #log: Log
  readonly #nodes = new Map<bigint, NodeRange>()
  readonly #names = new Map<string, { parent: bigint; name: Buffer }>()
  #sending: Promise<void> | undefined
  #stopped = false
  /**
   * The kernel can look a name up again before it believes that it is gone (7.38), which leaves what is mounted below it
   * in place. Without, the name is dropped.
   */
  expireOnly = false

  constructor(device: FuseDevice, log: Log) {
    this.#device = device
    this.#log = log
  }

  invalidateNode(node: bigint, offset: number, length: number): void {
    this.#queue(node, offset, length)
  }

  dropPages(node: bigint, offset: number, length: number): Promise<void> {
    return new Promise((resolve) => {
      const queued = this.#queue(node, offset, length)
      if (queued) queued.waiting.push(resolve)
      else resolve()
    })
  }

  expireAttributes(node: bigint): void {
    if (this.#stopped) return
    const bytes = invalNode({ node, offset: -1, length: 0 })
    this.#judge(this.#device.write(bytes, bytes.length, undefined), { node: String(node) })
  }

  invalidateName(parent: bigint, name: Buffer): void {
    if (this.#stopped) return
    const key = `${parent}/${name.toString('latin1')}`
    if (!this.#names.has(key)) this.#names.set(key, { parent, name: Buffer.from(name) })
    this.#start()
  }

  #queue(node: bigint, offset: number, length: number): NodeRange | undefined {
    if (this.#stopped) return undefined
    let queued = this.#nodes.get(node)
    if (!queued) {
      queued = { node, offset, length, waiting: [] }
      this.#nodes.set(node, queued)
    } else if (queued.offset !== offset || queued.length !== length) {
      // Two ranges: all of it, unless neither has content.
      queued.offset = Math.max(queued.offset, offset) < 0 ? -1 : 0
      queued.length = 0
    }
    this.#start()
    return queued
  }

  /** Resolves when nothing is left to send. */
  async idle(): Promise<void> {
    while (this.#sending) await this.#sending
  }

  /** The connection is gone; what was to be sent is pointless. */
  stop(): void {
    this.#stopped = true
    for (const { waiting } of this.#nodes.values()) for (const wake of waiting) wake()
    this.#nodes.clear()
    this.#names.clear()
  }

  #start(): void {
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined
    })
  }

  #next(): Message | undefined {
    for (const [key, { parent, name }] of this.#names) {
      this.#names.delete(key)
      return {
        bytes: invalName(parent, name, this.expireOnly),
        what: { parent: String(parent) },
        waiting: [],
      }
    }
    for (const [node, range] of this.#nodes) {
      this.#nodes.delete(node)
      return { bytes: invalNode(range), what: { node: String(node) }, waiting: range.waiting }
    }
    return undefined
  }

  #judge(result: number, what: object): void {
    if (result >= 0 || HARMLESS.has(result)) return
    this.#log.warn({ ...what, errno: -result }, 'the kernel did not take a cache invalidation')
  }

  async #send(): Promise<void> {
    // Lets the handler that asked for this finish first: its own answer may free the lock that the kernel needs.
    await new Promise(setImmediate)
    for (let next = this.#next(); next; next = this.#next()) {
      this.#judge(await this.#device.writeFromThread(next.bytes), next.what)
      for (const wake of next.waiting) wake()
    }
  }
}
