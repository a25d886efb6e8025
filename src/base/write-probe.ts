import { closeSync, constants, openSync, rmSync, write } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { entryPoint } from './entry-point.ts'
import { Unanswered } from './errors.ts'

const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY

// How long an answer counts, in milliseconds: to ask for each commit would cost an application that commits all the time a third
// of what it does.
const FRESH_MS = 1
// What the pool has not answered by then is asked of a thread of our own: the disk may be well, and the pool full of other work.
const POOL_MS = 250
// A disk that is only busy answers that thread before this.
const LATE_MS = 500
const LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }

const BYTE = Buffer.from([0])

/**
 * `changes`: it throws before it begins to commit. `looks`: only where there turns out to be something to commit. `again`: it has waited
 * for the disk a moment ago.
 */
type RequestKind = 'changes' | 'looks' | 'again'

/** The request under way in this very tick, until it has begun to commit. */
let request: 'none' | RequestKind | 'asked' = 'none'

/**
 * Runs `body`, which does nothing that lasts before its first commit: where that has to wait for a disk it throws, and is to be run
 * again.
 */
export function asRequest<T>(kind: RequestKind, body: () => T): T {
  const outer = request
  request = kind
  try {
    return body()
  } finally {
    request = outer
  }
}

/** The same to be run again: from the second time on it has waited. */
export function repeatable(kind: RequestKind, body: () => unknown): () => unknown {
  let now = kind
  return () => {
    const first = now
    now = 'again'
    return asRequest(first, body)
  }
}

/**
 * Whether a disk takes writes (P6). SQLite writes on the thread that serves, and nobody can take that back from a write that hangs; so a
 * thread of the pool writes a byte to the same disk first, and who is about to commit waits for that one. It tells that the disk
 * answered a moment ago, and no more. What waits in the pool tells nothing of the disk: a thread of its own is asked then.
 */
export class WriteProbe {
  readonly #name: string
  readonly #pool = new Pool()
  readonly #thread = new Thread()
  #descriptor: number | undefined
  #asking: Promise<void> | undefined
  /** The same, resolved once the disk is late. */
  #askingOrLate: Promise<void> | undefined
  #answeredAt = Number.NEGATIVE_INFINITY
  #late = false

  /** @param name of the disk, as in "… does not answer" */
  constructor(directory: string, name: string) {
    this.#name = name
    this.#descriptor = open(directory)
  }

  /** The disk has not answered for so long that nobody should touch it. */
  get isLate(): boolean {
    return this.#late
  }

  /** Resolves once the disk has taken a write; undefined if it just has. */
  ready(): Promise<void> | undefined {
    if (this.#isFresh) return undefined
    return this.#ask()
  }

  /** The same for those who can do without the disk once it is known not to answer. */
  readyOrLate(): Promise<void> | undefined {
    if (this.#late || this.#isFresh) return undefined
    return this.#askedOrLate()
  }

  /** Before a transaction; true if `require` is to be called where it has something to commit. @throws Unanswered */
  begin(): boolean {
    if (request === 'changes') this.require()
    return request === 'looks' || (this.#late && request !== 'asked')
  }

  /** @throws Unanswered where nothing should be committed now */
  require(): void {
    if (this.#late) throw new Unanswered(this.#name, false, this.#ask(), request !== 'none')
    if (request === 'none') return
    if (request !== 'again' && !this.#isFresh)
      throw new Unanswered(this.#name, false, this.#askedOrLate(), true)
    request = 'asked'
  }

  close(): void {
    const descriptor = this.#descriptor
    this.#descriptor = undefined
    if (descriptor === undefined) return
    // What is under way has the number: it must not be another file's by then (P1).
    const ended = [this.#pool.ended(), this.#thread.ended()].filter((end) => end !== undefined)
    if (ended.length === 0) closeSync(descriptor)
    else void Promise.all(ended).then(() => closeSync(descriptor))
  }

  get #isFresh(): boolean {
    return this.#descriptor === undefined || performance.now() - this.#answeredAt < FRESH_MS
  }

  #askedOrLate(): Promise<void> {
    const asked = this.#ask()
    return this.#askingOrLate ?? asked
  }

  #ask(): Promise<void> {
    if (this.#asking) return this.#asking
    const late = Promise.withResolvers<void>()
    const asking = this.#write(late.resolve).finally(() => {
      this.#asking = undefined
      this.#askingOrLate = undefined
    })
    this.#asking = asking
    this.#askingOrLate = Promise.race([asking, late.promise])
    return asking
  }

  #write(tellLate: () => void): Promise<void> {
    const descriptor = this.#descriptor
    if (descriptor === undefined) return Promise.resolve()
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined
      let answered = false
      const answer = (): void => {
        if (answered) return
        answered = true
        clearTimeout(timer)
        this.#late = false
        this.#answeredAt = performance.now()
        resolve()
      }
      // An answer that came while the event loop was kept is told before the look.
      const unlessAnswered = (milliseconds: number, act: () => void): void => {
        timer = setTimeout(() => setImmediate(() => !answered && act()), milliseconds)
      }
      const askThread = (): void => {
        this.#thread.write(descriptor, answer)
        unlessAnswered(LATE_MS, () => {
          this.#late = true
          tellLate()
        })
      }
      // One byte at a time waits there.
      if (this.#pool.isBusy) askThread()
      else unlessAnswered(POOL_MS, askThread)
      this.#pool.write(descriptor, answer)
    })
  }
}

/** Writes a byte in a thread of the pool, one at a time; the last who asked is told. */
class Pool {
  #written: (() => void) | undefined
  #ended = Promise.withResolvers<void>()

  get isBusy(): boolean {
    return this.#written !== undefined
  }

  /** Resolves once nothing is under way; undefined if nothing is. */
  ended(): Promise<void> | undefined {
    return this.isBusy ? this.#ended.promise : undefined
  }

  write(descriptor: number, written: () => void): void {
    const { isBusy } = this
    this.#written = written
    if (isBusy) return
    // Of a disk that is full or fails, the commit tells.
    write(descriptor, BYTE, 0, 1, 0, () => {
      const tell = this.#written
      this.#written = undefined
      this.#ended.resolve()
      this.#ended = Promise.withResolvers()
      tell?.()
    })
  }
}

/** The same in a thread of its own, which is started when it is first asked for. */
class Thread {
  #worker: Worker | undefined
  #written: (() => void) | undefined

  write(descriptor: number, written: () => void): void {
    const isBusy = this.#written !== undefined
    this.#written = written
    if (!isBusy) this.#started().postMessage(descriptor)
  }

  #started(): Worker {
    if (this.#worker) return this.#worker
    const worker = new Worker(entryPoint('base/probe-thread'), { resourceLimits: LIMITS })
    this.#worker = worker
    worker.unref()
    worker.on('message', () => {
      const tell = this.#written
      this.#written = undefined
      tell?.()
    })
    // Whoever asks next has another one; who waits hears of the pool.
    worker.on('error', () => {
      this.#worker = undefined
      this.#written = undefined
    })
    return worker
  }

  /** Ends it, and resolves once it is gone with what it had begun; undefined if there is none. */
  ended(): Promise<unknown> | undefined {
    return this.#worker?.terminate()
  }
}

/** A file without a name: nobody finds it, and nothing of it stays. Undefined where there can be none; then nobody is kept. */
function open(directory: string): number | undefined {
  try {
    return openSync(directory, O_TMPFILE | constants.O_WRONLY, 0o600)
  } catch {
    const path = join(directory, 'probe')
    try {
      const descriptor = openSync(path, 'wx', 0o600)
      rmSync(path)
      return descriptor
    } catch {
      return undefined
    }
  }
}
