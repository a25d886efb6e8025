import type { RequestContext } from '../operations.ts'
import { UNIQUE_RESEND } from './protocol.ts'

/** One request under way, as the file system sees it and as the session finds it again. */
export class Request implements RequestContext {
  /** `unique` as the kernel sent it. */
  readonly id: bigint
  readonly unique: bigint
  /** Something of it may have been done before. */
  resent: boolean
  /** When it was taken off the device, in milliseconds of the monotonic clock. */
  readonly since = performance.now()
  readonly opcode: number
  readonly node: bigint
  readonly uid: number
  readonly gid: number
  readonly pid: number
  umask = 0
  #controller: AbortController | undefined
  #aborted = false

  constructor(id: bigint, opcode: number, node: bigint, uid: number, gid: number, pid: number) {
    this.id = id
    this.resent = id >= UNIQUE_RESEND
    this.unique = withoutResend(id)
    this.opcode = opcode
    this.node = node
    this.uid = uid
    this.gid = gid
    this.pid = pid
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#aborted) this.#controller.abort()
    }
    return this.#controller.signal
  }

  abort(): void {
    this.#aborted = true
    this.#controller?.abort()
  }
}

/** What stays the same of `unique` when the kernel sends a request again. */
export function withoutResend(id: bigint): bigint {
  return id >= UNIQUE_RESEND ? id - UNIQUE_RESEND : id
}

/** The request whose `struct fuse_in_header` lies at the start. */
export function requestFrom(header: DataView): Request {
  return new Request(
    header.getBigUint64(8, true),
    header.getUint32(4, true),
    header.getBigUint64(16, true),
    header.getUint32(24, true),
    header.getUint32(28, true),
    header.getUint32(32, true),
  )
}
