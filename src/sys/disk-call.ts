/**
 * How a call is put into the memory that a thread of a disk shares: numbers one after the other, a state first. Whoever has the
 * turn is the only one who touches the rest.
 */
export const State = {
  /** Nothing is asked for. */
  idle: 0,
  /** The thread has the turn. */
  asked: 1,
  /** The answer is there. */
  done: 2,
  /** The thread has the turn, and whoever asked has stopped waiting: he is told by a message. */
  late: 3,
} as const

// Indexes of 32-bit numbers.
export const STATE = 0
export const FUNCTION = 1
export const COUNT = 2
export const ERRNO = 3
export const UID = 4
export const GID = 5
export const UMASK = 6
/** Length of the signature behind the data, if the thread does not know the function yet. */
export const SIGNATURE_BYTES = 7
/** Kind of each argument: a number, or the length of bytes with one of these added. */
export const KINDS = 8
export const MOST_ARGUMENTS = 8
/** 1 once the thread runs. */
export const READY = 16
/** Counts the calls: the thread makes the next one when this moves. */
export const CALL = 17
export const KIND_NUMBER = -1

// Indexes of 64-bit numbers behind them: the result, then the arguments, numbers or offsets into the data.
const NUMBERS_AT = 128
export const RESULT = 0
export const ARGUMENTS = 1
const DATA_AT = 256

/** Nobody in particular: the daemon itself. */
export const NOBODY = -1

export interface CallMemory {
  readonly control: Int32Array
  readonly numbers: BigInt64Array
  readonly data: Buffer
}

export function callMemory(shared: SharedArrayBuffer): CallMemory {
  return {
    control: new Int32Array(shared, 0, NUMBERS_AT / 4),
    numbers: new BigInt64Array(shared, NUMBERS_AT, (DATA_AT - NUMBERS_AT) / 8),
    data: Buffer.from(shared, DATA_AT),
  }
}

/** Memory for calls with so many bytes of data in all. */
export function newCallMemory(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(DATA_AT + bytes)
}

/** Parameters of a function, as koffi reads a signature: what the bytes of each are for. */
export function parametersOf(signature: string): readonly ('number' | 'in' | 'out')[] {
  const list = /\((.*)\)/.exec(signature)?.[1] ?? ''
  return list.split(',').map((parameter) => {
    if (!parameter.includes('*')) return 'number'
    return parameter.includes('const') ? 'in' : 'out'
  })
}
