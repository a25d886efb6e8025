import { onFaultPoint } from '../../../src/base/faults.ts'

/** Thrown where a test stops a daemon dead. */
class CrashSignal extends Error {
  constructor() {
    super('the daemon is dead')
    this.name = 'CrashSignal'
  }
}

/** A request that was not answered because the daemon died. The kernel sends it again to a successor. */
export class Unanswered extends Error {
  readonly unique: bigint

  constructor(unique: bigint) {
    super(`request ${unique} was not answered`)
    this.unique = unique
  }
}

// What a dead daemon's background work rejects with belongs to nobody: it is dead. Everything else goes on to the runner.
for (const event of ['unhandledRejection', 'uncaughtException'] as const) {
  const listeners = process.listeners(event as 'uncaughtException')
  process.removeAllListeners(event)
  process.on(event, (reason: unknown) => {
    if (reason instanceof CrashSignal) return
    for (const listener of listeners) listener.call(process, reason as Error, event)
  })
}

interface Trap {
  readonly point: string
  left: number
  readonly die: () => void
}

let trap: Trap | undefined
const visitors = new Map<string, () => void>()

onFaultPoint((point) => {
  visitors.get(point)?.()
  if (trap?.point !== point) return
  trap.left -= 1
  if (trap.left > 0) return
  const { die } = trap
  trap = undefined
  die()
  throw new CrashSignal()
})

/** Calls `die` at the n-th passage of a fault point and throws a CrashSignal there. */
export function setTrap(point: string, die: () => void, nth = 1): void {
  trap = { point, left: nth, die }
}

export function clearTrap(): void {
  trap = undefined
  visitors.clear()
}

/** Runs `visit` at every passage of a fault point, within the passage; `undefined` ends it. */
export function atPoint(point: string, visit: (() => void) | undefined): void {
  if (visit) visitors.set(point, visit)
  else visitors.delete(point)
}

/** From now on these methods of the object throw: nothing that the dead daemon still runs has an effect. */
export function freeze<T extends object>(object: T, methods: ReadonlyArray<keyof T>): void {
  for (const method of methods) {
    Object.defineProperty(object, method, {
      value: () => {
        throw new CrashSignal()
      },
    })
  }
}
