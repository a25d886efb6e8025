import type { Answer, FileSystem } from '../operations.ts'
import type { AnswerWriter } from './answer.ts'
import type { Body } from './body.ts'
import type { Agreement } from './init.ts'
import type { Request } from './request.ts'

/** One opcode: from the bytes of the request to a call of the file system to the bytes of the answer. */
export interface Operation<P = unknown, R = unknown> {
  readonly name: string
  /**
   * Nothing changes by it. If the caller is being killed it may be told EINTR before the file system answers, which
   * nobody sees; a change has to be waited for, because it may still take effect.
   */
  readonly readOnly: boolean
  /** @throws ProtocolError, FsError */
  decode(body: Body, agreement: Agreement): P
  perform(fileSystem: FileSystem, request: Request, params: P): Answer<R>
  encode(answer: AnswerWriter, result: R, params: P): void
  /** Gives back what an answer that never reached the kernel had handed out: look-ups, an open handle. */
  undo?(fileSystem: FileSystem, request: Request, result: R, params: P): Answer<void>
}

/** Lets the compiler infer and check the types of one operation; the table then holds them all as one type. */
export function operation<P, R>(spec: Operation<P, R>): Operation {
  return spec
}

/** The answer is its header. */
export const encodeNothing = (): void => {}
export const decodeNothing = (): void => {}
