import { AsyncLocalStorage } from 'node:async_hooks'

/** What is being done, in words for the log; a function where it would cost something to find them for each request. */
export type Doing = string | (() => string)

/** One turn of the event loop in which something was done that is measured. */
export interface Turn {
  /** Everybody else waited for so long. */
  readonly milliseconds: number
  /** So much of it the processor worked for this thread; the rest a system call or the machine kept it. */
  readonly cpuMilliseconds: number
  /** What took the longest of it. */
  readonly doing: string
  /** So much of it that took. */
  readonly doingMilliseconds: number
  /** Where it was when it had taken `LONG_TURN_MS`, if that was seen while it went on. */
  readonly stack: string | undefined
}

/** A turn that is this long is told of in the log. */
export const LONG_TURN_MS = 100

const doings = new AsyncLocalStorage<Doing>()

let watcher: ((turn: Turn) => void) | undefined
let isOpen = false
let startedAt = 0
let cpuAtStart = 0
// What is done since `since`, and how much of this turn went to it in one go.
let doing: Doing | undefined
let since = 0
let spent = 0
let longest: { doing: Doing | undefined; spent: number } = { doing: undefined, spent: 0 }
let stack: string | undefined

/** Runs `body` under this name, with all that it goes on with later: where the loop is kept, the log says by whom. */
export function within<T>(name: Doing, body: () => T): T {
  if (!watcher) return body()
  return doings.run(name, () => {
    step()
    return body()
  })
}

/**
 * To be called on the way by whatever may keep the event loop: costs a fraction of a microsecond. The first one in a turn
 * begins to measure it, and each tells who has it.
 */
export function step(): void {
  if (!watcher) return
  const now = performance.now()
  if (isOpen) {
    credit(now)
  } else {
    isOpen = true
    startedAt = now
    cpuAtStart = cpuMs()
    setImmediate(end)
    longest = { doing: undefined, spent: 0 }
    stack = undefined
    spent = 0
  }
  since = now
  const next = doings.getStore()
  if (next !== doing) {
    doing = next
    spent = 0
  }
}

/**
 * Has `listener` told of every turn of this process's event loop, until the function that it returns is called.
 * Without one nothing is measured.
 */
export function watchTurns(listener: (turn: Turn) => void): () => void {
  watcher = listener
  return () => {
    if (watcher === listener) watcher = undefined
  }
}

function credit(now: number): void {
  spent += now - since
  if (spent > longest.spent) longest = { doing, spent }
  if (spent > LONG_TURN_MS) stack ??= new Error('here').stack?.split('\n').slice(3).join('\n')
}

function end(): void {
  isOpen = false
  const now = performance.now()
  spent += now - since
  if (spent > longest.spent) longest = { doing, spent }
  const name = longest.doing ?? 'something without a name'
  doing = undefined
  watcher?.({
    milliseconds: now - startedAt,
    cpuMilliseconds: cpuMs() - cpuAtStart,
    get doing() {
      return typeof name === 'string' ? name : name()
    },
    doingMilliseconds: longest.spent,
    stack,
  })
}

// Before Node 23.9 only the whole process's is to be had.
const cpuUsage: typeof process.cpuUsage = process.threadCpuUsage ?? process.cpuUsage

function cpuMs(): number {
  const { user, system } = cpuUsage.call(process)
  return (user + system) / 1000
}
