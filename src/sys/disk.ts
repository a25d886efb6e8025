import { Worker } from 'node:worker_threads'
import { entryPoint } from '../base/entry-point.ts'
import { FsError, Unanswered, errnoName, volumeErrno } from '../base/errors.ts'
import {
  ARGUMENTS,
  CALL,
  type CallMemory,
  callMemory,
  COUNT,
  ERRNO,
  FUNCTION,
  GID,
  KIND_NUMBER,
  KINDS,
  MOST_ARGUMENTS,
  newCallMemory,
  READY,
  NOBODY,
  parametersOf,
  RESULT,
  SIGNATURE_BYTES,
  STATE,
  State,
  UID,
  UMASK,
} from './disk-call.ts'
import { Lanes } from './lanes.ts'

/** In whose name something is done. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly umask: number
}

/** As libc reports: -1 and an errno, or the result. */
export interface Outcome {
  readonly result: number
  readonly errno: number
}

export interface DiskOptions {
  /** How long a call that runs within a tick is waited for, in milliseconds. */
  readonly patienceMs?: number
  /** The same for one that does not keep the event loop. */
  readonly deadlineMs?: number
  /** Told when the disk stops answering, and when it answers again. */
  readonly onChange?: (answers: boolean) => void
}

/** Before a disk counts as one that does not answer, everybody else waits with the caller. */
const PATIENCE_MS = 500
const PATIENT_MS = 2000
/** A call that this process does not wait for in its event loop. */
const DEADLINE_MS = 10_000
/** What the start of a thread may take, on a machine that may be busy. */
const START_MS = 20_000
// Names, and a value as long as an extended attribute can be.
const SYNC_BYTES = 160 * 1024
const WRITE_BYTES = 1024 * 1024
const SIGNATURE_ROOM = 256
const WRITERS = 2
// Of the thread pool: a call that hangs keeps a thread.
const POOL_CALLS = 8
const PWRITE = 'int64_t pwrite(int, const void *, size_t, int64_t)'
const LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }

const NO_CALLER: Caller = { uid: NOBODY, gid: NOBODY, umask: 0 }

/** A function of libc, numbered so that a thread needs its signature once. */
export interface LibcFunction {
  readonly index: number
  readonly signature: string
  readonly parameters: readonly ('number' | 'in' | 'out')[]
}

const functions = new Map<string, LibcFunction>()

export function libcFunction(signature: string): LibcFunction {
  let known = functions.get(signature)
  if (!known) {
    known = { index: functions.size, signature, parameters: parametersOf(signature) }
    functions.set(signature, known)
  }
  return known
}

/**
 * A disk that is somebody else's, and may stop to answer (P6). No call on it is made by the thread that serves: a thread of the
 * disk makes it, and is waited for. One that takes longer than that goes on by itself, and until it has ended every other call is
 * refused at once: so nothing is ever done in another order than it was asked for.
 */
export class Disk {
  readonly #name: string
  #patienceMs: number
  readonly #deadlineMs: number
  readonly #onChange: (answers: boolean) => void
  #caller: Caller = NO_CALLER
  #sync: DiskThread | undefined
  readonly #writers: DiskThread[] = []
  readonly #writing = new Lanes(WRITERS)
  readonly #pool = new Lanes(POOL_CALLS)
  /** Calls that nobody waits for any more. */
  #late = 0
  #back = Promise.withResolvers<void>()
  readonly #toClose: number[] = []
  #closed = false

  constructor(name: string, options: DiskOptions = {}) {
    this.#name = name
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
    this.#onChange = options.onChange ?? (() => undefined)
  }

  get answers(): boolean {
    return this.#late === 0
  }

  /** Makes the calls of `body`, within this tick, in that one's name. */
  as<T>(caller: Caller, body: () => T): T {
    this.#caller = caller
    try {
      return body()
    } finally {
      this.#caller = NO_CALLER
    }
  }

  /** For calls within this tick that make the disk work, and are rare. */
  patiently<T>(body: () => T): T {
    const usual = this.#patienceMs
    this.#patienceMs = Math.max(usual, PATIENT_MS)
    try {
      return body()
    } finally {
      this.#patienceMs = usual
    }
  }

  /** Within this tick. @throws Unanswered */
  call(called: LibcFunction, args: readonly unknown[], descriptorResult = false): Outcome {
    if (!this.answers) throw this.#unanswered(false)
    const thread = (this.#sync ??= startedThread())
    thread.put(called, args, this.#caller)
    if (!thread.waitFor(this.#patienceMs)) {
      this.#becameLate()
      thread.onDone(({ result }) => {
        // Nobody knows of it any more.
        if (descriptorResult && result >= 0) this.#toClose.push(result)
        this.#ended()
      })
      throw this.#unanswered(true)
    }
    return thread.take(called, args)
  }

  /** Closes a descriptor as soon as the disk answers. */
  close(descriptor: number): void {
    this.#toClose.push(descriptor)
    this.#closeAll()
  }

  /** Writes some of it. @throws FsError, Unanswered */
  write(descriptor: number, data: Buffer, position: number, caller: Caller = NO_CALLER): Promise<number> {
    return this.#run(this.#writing, this.#deadlineMs, (lane) => {
      const thread = this.#writers[lane] ?? new DiskThread(WRITE_BYTES, true)
      this.#writers[lane] = thread
      const some = data.length > WRITE_BYTES ? data.subarray(0, WRITE_BYTES) : data
      thread.put(libcFunction(PWRITE), [descriptor, some, some.length, position], caller)
      return new Promise((resolve, reject) =>
        thread.onDone(({ result, errno }) => {
          if (result >= 0) resolve(result)
          else reject(new FsError(volumeErrno(errnoName(errno)), `write: ${errnoName(errno)}`))
        }),
      )
    })
  }

  /** Runs what works on a thread of the pool. @throws its error, Unanswered */
  during<T>(body: () => Promise<T>, deadlineMs = this.#deadlineMs): Promise<T> {
    return this.#run(this.#pool, deadlineMs, body)
  }

  /** Closes a descriptor on a thread of the pool, by `close`; within a tick where that has not begun. @throws Unanswered */
  async closing(descriptor: number, close: () => Promise<void>, deadlineMs: number): Promise<void> {
    try {
      await this.during(close, deadlineMs)
    } catch (error) {
      if (error instanceof Unanswered && !error.begun) this.close(descriptor)
      throw error
    }
  }

  /** Nothing is asked of it any more. Calls that hang go on hanging, with their threads. */
  end(): void {
    this.#closed = true
    this.#closeAll()
    for (const thread of [this.#sync, ...this.#writers]) thread?.end()
  }

  async #run<T>(lanes: Lanes, deadlineMs: number, body: (lane: number) => Promise<T>): Promise<T> {
    if (!this.answers) throw this.#unanswered(false)
    let begun = false
    let isLate = false
    const ended = lanes.run(async (lane) => {
      // Whoever waited for a lane may have given up.
      if (isLate || !this.answers) throw this.#unanswered(false)
      begun = true
      return body(lane)
    })
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        isLate = true
        if (begun) this.#becameLate()
        reject(this.#unanswered(begun))
      }, deadlineMs)
    })
    const over = (): void => {
      clearTimeout(timer)
      if (isLate && begun) this.#ended()
    }
    ended.then(over, over)
    return Promise.race([ended, deadline])
  }

  #unanswered(begun: boolean): Unanswered {
    return new Unanswered(this.#name, begun, this.#back.promise)
  }

  #becameLate(): void {
    this.#late += 1
    if (this.#late === 1) this.#onChange(false)
  }

  #ended(): void {
    this.#late -= 1
    if (this.#late > 0) return
    this.#onChange(true)
    this.#closeAll()
    if (!this.answers) return
    const { resolve } = this.#back
    this.#back = Promise.withResolvers()
    resolve()
  }

  #closeAll(): void {
    while (this.answers) {
      const descriptor = this.#toClose.pop()
      if (descriptor === undefined) return
      try {
        if (this.#closed && !this.#sync) return
        this.call(CLOSE, [descriptor])
      } catch (error) {
        // Under way.
        if (!(error instanceof Unanswered)) throw error
      }
    }
  }
}

function startedThread(): DiskThread {
  const thread = new DiskThread(SYNC_BYTES)
  thread.started(START_MS)
  return thread
}

const CLOSE = libcFunction('int close(int)')

/** One thread, and the memory in which it is asked. */
class DiskThread {
  readonly #worker: Worker
  readonly #memory: CallMemory
  readonly #knows = new Set<number>()
  #listener: ((outcome: Outcome) => void) | undefined

  constructor(bytes: number, answersByMessage = false) {
    const shared = newCallMemory(bytes + SIGNATURE_ROOM)
    this.#memory = callMemory(shared)
    const entry = entryPoint('sys/disk-thread')
    this.#worker = new Worker(entry, { workerData: { shared, answersByMessage }, resourceLimits: LIMITS })
    this.#worker.unref()
    this.#worker.on('message', () => {
      const listener = this.#listener
      this.#listener = undefined
      const outcome = this.#outcome()
      Atomics.store(this.#memory.control, STATE, State.idle)
      listener?.(outcome)
    })
  }

  put({ index, signature, parameters }: LibcFunction, args: readonly unknown[], caller: Caller): void {
    const { control, numbers, data } = this.#memory
    if (args.length > MOST_ARGUMENTS) throw new RangeError(`${signature} has too many parameters`)
    let at = 0
    for (const [nth, arg] of args.entries()) {
      if (!Buffer.isBuffer(arg)) {
        control[KINDS + nth] = KIND_NUMBER
        numbers[ARGUMENTS + nth] = BigInt(arg as number | bigint)
        continue
      }
      if (at + arg.length > data.length - SIGNATURE_ROOM)
        throw new FsError('E2BIG', 'more than fits into a call')
      // What only comes back is not worth a copy; what is small may go both ways.
      if (parameters[nth] === 'in' || arg.length <= 64) arg.copy(data, at)
      control[KINDS + nth] = arg.length
      numbers[ARGUMENTS + nth] = BigInt(at)
      at += (arg.length + 7) & ~7
    }
    control[SIGNATURE_BYTES] = 0
    if (!this.#knows.has(index)) {
      control[SIGNATURE_BYTES] = data.write(signature, data.length - signature.length, 'latin1')
      this.#knows.add(index)
    }
    control[FUNCTION] = index
    control[COUNT] = args.length
    control[UID] = caller.uid
    control[GID] = caller.gid
    control[UMASK] = caller.umask
    Atomics.store(control, STATE, State.asked)
    Atomics.add(control, CALL, 1)
    Atomics.notify(control, CALL)
  }

  /** Waits, within this tick, until the thread runs. */
  started(milliseconds: number): void {
    Atomics.wait(this.#memory.control, READY, 0, milliseconds)
  }

  /** False if it takes longer; its end is then told to `onDone`. */
  waitFor(milliseconds: number): boolean {
    const { control } = this.#memory
    const until = performance.now() + milliseconds
    while (Atomics.load(control, STATE) === State.asked) {
      const left = until - performance.now()
      const isOver = left <= 0 || Atomics.wait(control, STATE, State.asked, left) === 'timed-out'
      if (isOver && Atomics.compareExchange(control, STATE, State.asked, State.late) === State.asked)
        return false
    }
    return true
  }

  /** The answer of a call that was waited for, with what it wrote into the arguments. */
  take({ parameters }: LibcFunction, args: readonly unknown[]): Outcome {
    const { control, numbers, data } = this.#memory
    const outcome = this.#outcome()
    for (const [nth, arg] of args.entries()) {
      if (!Buffer.isBuffer(arg) || parameters[nth] !== 'out') continue
      const at = Number(numbers[ARGUMENTS + nth])
      // Of a long one only what was filled: these calls say how much.
      const length = arg.length > 4096 ? Math.max(0, Math.min(arg.length, outcome.result)) : arg.length
      data.copy(arg, 0, at, at + length)
    }
    Atomics.store(control, STATE, State.idle)
    return outcome
  }

  onDone(listener: (outcome: Outcome) => void): void {
    this.#listener = listener
  }

  #outcome(): Outcome {
    const { control, numbers } = this.#memory
    return { result: Number(numbers[RESULT] ?? -1n), errno: control[ERRNO] ?? 0 }
  }

  end(): void {
    void this.#worker.terminate()
  }
}
