// The disk of the rig replaces some of the same calls when it is loaded; what is replaced last is what counts.
import '../../support/rig/clock.ts'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

type Callback = (error: unknown, ...results: unknown[]) => void
type Call = (...args: unknown[]) => unknown

// How many turns of the event loop a request takes; drawn from the seed, so that requests overtake each other.
let turnsOf: () => number = () => 1

/** Requests to local files take as many turns of the event loop from now on. */
export function setPace(turns: () => number): void {
  turnsOf = turns
}

let underWay = 0

function later(body: () => void): void {
  underWay += 1
  const inTurns = (turns: number): void => {
    setImmediate(() => {
      if (turns > 1) {
        inTurns(turns - 1)
        return
      }
      underWay -= 1
      body()
    })
  }
  inTurns(turnsOf())
}

// What is done behind an answer is asked for within these.
const QUIET_TURNS = 3

/**
 * Resolves once nothing is asked of local files any more: what one life leaves under way, a write of the witness for which nobody
 * waits, must not take turns in the next.
 */
export async function requestsEnded(): Promise<void> {
  for (let quiet = 0; quiet < QUIET_TURNS; quiet += 1) {
    if (underWay > 0) quiet = 0
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const table = fs as unknown as Record<string, unknown>
const promises = fs.promises as unknown as Record<string, unknown>

/** The call that answers at once, which carries out the one that answers later. */
function synchronous(name: string): Call | undefined {
  const call = table[`${name}Sync`]
  return typeof call === 'function' ? (call as Call) : undefined
}

function withCallback(name: string, original: object, call: Call): Call {
  const replaced = (...args: unknown[]): void => {
    // close(2) may be asked for with nobody to tell.
    const done = typeof args.at(-1) === 'function' ? (args.pop() as Callback) : () => undefined
    later(() => {
      let result: unknown
      try {
        result = call(...args)
      } catch (error) {
        done(error)
        return
      }
      if (name === 'read' || name === 'write') done(null, result, args[1])
      else done(null, result)
    })
  }
  // What promisify(3) goes by.
  for (const symbol of Object.getOwnPropertySymbols(original)) {
    Object.defineProperty(replaced, symbol, { value: (original as Record<symbol, unknown>)[symbol] })
  }
  return replaced
}

const withPromise =
  (call: Call): Call =>
  (...args) =>
    new Promise((resolve, reject) =>
      later(() => {
        try {
          resolve(call(...args))
        } catch (error) {
          reject(error)
        }
      }),
    )

/**
 * From now on no request to a file leaves the main thread: each is carried out in a later turn of the event loop. So what is
 * recorded depends on the seed alone, and a recording can be made again.
 */
function takeOverFiles(): void {
  for (const name of Object.keys(table)) {
    const call = synchronous(name)
    const original = table[name]
    if (call && typeof original === 'function') table[name] = withCallback(name, original, call)
  }
  for (const name of Object.keys(promises)) {
    const call = synchronous(name)
    // A FileHandle would bring the threads back.
    if (call && name !== 'open') promises[name] = withPromise(call)
  }
  syncBuiltinESMExports()
}

takeOverFiles()
