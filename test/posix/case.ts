import { expect } from 'vitest'
import type { Remote } from '../support/posix/agent.ts'
import type { Features } from '../support/posix/features.ts'
import { SyscallError } from '../support/posix/libc.ts'

/** What a case works with: a directory of its own, and processes to work in it. */
export interface CaseContext {
  /** Fresh, empty, mode 0777, owned by `me`; removed after the case. */
  readonly dir: string
  /** The user that runs the tests; root in a full run. */
  readonly me: Remote
  /** Another process of the same user. */
  readonly second: Remote
  /** alice and bob share the group TEAM; carol is nobody's colleague. Only with `needs: ['root']`. */
  readonly alice: Remote
  readonly bob: Remote
  readonly carol: Remote
  /** Four more processes of the same user. */
  readonly workers: readonly Remote[]
  /** Process id of `second`. */
  secondPid(): Promise<number>
  /** Lets `second` die as by kill -9. */
  killSecond(): Promise<void>
  /** How many entries the large directory has. */
  readonly entries: number
  /** Ends the case with a printed reason why it cannot be decided here. */
  skip(reason: string): never
}

export interface PosixCase {
  readonly name: string
  /** Features of the reference without which the case says nothing. */
  readonly needs?: readonly (keyof Features)[]
  run(c: CaseContext): Promise<void>
}

export const ALICE = 4001
export const BOB = 4002
export const CAROL = 4003
/** Supplementary group of alice and bob. */
export const TEAM = 4010
/** A group that none of them is in. */
export const OTHERS = 4020

/** The call has to fail with this errno (one of them). */
export async function refused(code: string | readonly string[], call: Promise<unknown>): Promise<void> {
  const outcome = await call.then(
    () => 'success',
    (error: unknown) => {
      if (error instanceof SyscallError) return error.code
      throw error
    },
  )
  expect(typeof code === 'string' ? [code] : code, 'what the call answered').toContain(outcome)
}

/** Bytes of a name from Latin-1 text, after a directory. */
export function bytesIn(directory: string, latin1: string): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(latin1, 'latin1')])
}

/** `length` bytes that are the same for the same seed and differ at every offset that a mistake would hit. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length)
  let state = (seed * 2_654_435_761) >>> 0
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}
