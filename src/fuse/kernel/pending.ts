import type { RequestBuffer } from './buffers.ts'
import type { Operation } from './operation.ts'
import type { Request } from './request.ts'

/** A request under way, with what its end needs. */
export interface Pending {
  readonly request: Request
  readonly operation: Operation
  readonly params: unknown
  /** Lent to the file system until it answers. */
  readonly buffer: RequestBuffer | undefined
  /** In milliseconds of the monotonic clock. */
  readonly since: number
}
