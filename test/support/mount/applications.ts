import type { Remote } from '../posix/agent.ts'
import { eventually } from '../daemon/place.ts'
import type { Ferry } from './ferry.ts'
import { pattern } from './pattern.ts'

const KEPT = 6
const REWRITTEN = 8

/** One application that does its step again and again, in a process of its own, until it is told to stop. */
class Application {
  readonly name: string
  readonly ended: Promise<void>
  steps = 0
  #stopping = false

  constructor(name: string, step: (number: number) => Promise<void>) {
    this.name = name
    this.ended = this.#run(step)
    // Whoever waits for a step or the end hears of it.
    this.ended.catch(() => undefined)
  }

  stop(): Promise<void> {
    this.#stopping = true
    return this.ended
  }

  async #run(step: (number: number) => Promise<void>): Promise<void> {
    while (!this.#stopping) {
      await step(this.steps)
      this.steps += 1
    }
  }
}

/**
 * Applications at work in a mount: one reads what nobody changes, one writes files anew, appends, truncates and reads
 * back, one makes, renames, lists and removes files and directories. The first system call that fails and the first byte
 * that is wrong ends its application with an error, which `further` and `stop` throw.
 */
export class Applications {
  operations = 0
  readsChecked = 0
  readonly #ferry: Ferry
  readonly #all: readonly Application[]
  /** What the mount has to show: path → content. */
  readonly contents = new Map<string, Buffer>()

  /** `unchanged`: path → content of what the reader reads. The others work in directories `written` and `renamed`. */
  constructor(ferry: Ferry, unchanged: ReadonlyMap<string, Buffer>) {
    this.#ferry = ferry
    const paths = [...unchanged.keys()]
    this.#all = [
      this.#application('reader', async (call, number) => {
        const path = paths[(number * 7) % paths.length] ?? ''
        await this.#check(call, path, unchanged.get(path))
      }),
      this.#application('writer', (call, number) => this.#write(call, number)),
      this.#application('renamer', (call, number) => this.#rename(call, number)),
    ]
  }

  /** Waits until each application has done so many more steps. @throws what ended one of them */
  async further(steps: number): Promise<void> {
    const wanted = this.#all.map((one) => one.steps + steps)
    const over = Promise.race(this.#all.map((one) => one.ended))
    for (const [index, one] of this.#all.entries()) {
      const done = eventually(`${steps} steps of the ${one.name}`, () => one.steps >= (wanted[index] ?? 0))
      await Promise.race([done, over])
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((one) => one.stop()))
  }

  #application(name: string, step: (call: Remote, number: number) => Promise<void>): Application {
    const counted = new Proxy(this.#ferry.as(null).call, {
      get: (call, operation, receiver) => {
        this.operations += 1
        return Reflect.get(call, operation, receiver)
      },
    })
    return new Application(name, (number) => step(counted, number))
  }

  async #check(call: Remote, path: string, expected: Buffer | undefined): Promise<void> {
    const found = await this.#ferry.readAnew(path, call)
    if (expected === undefined || !found.equals(expected)) {
      throw new Error(`${path}: ${found.length} bytes, not the ${expected?.length} that were written`)
    }
    this.readsChecked += 1
  }

  async #write(call: Remote, number: number): Promise<void> {
    const path = `written/file-${number % REWRITTEN}`
    const place = this.#ferry.at(path)
    // One of them has several chunks.
    const large = number % REWRITTEN === REWRITTEN - 1 ? 2 << 20 : 0
    let body = pattern(large + 100 + ((number * 1709) % 20_000), number)
    await call.writeFile(place, body)
    if (number % 3 === 1) {
      const fd = await call.open(place, 2)
      const more = pattern(3000, number + 1)
      await call.write(fd, more, body.length)
      await call.fsync(fd)
      await call.close(fd)
      body = Buffer.concat([body, more])
    } else if (number % 3 === 2) {
      await call.truncate(place, body.length >> 1)
      body = body.subarray(0, body.length >> 1)
    }
    this.contents.set(path, body)
    await this.#check(call, path, body)
  }

  async #rename(call: Remote, number: number): Promise<void> {
    const at = (path: string): string => this.#ferry.at(`renamed/${path}`)
    if (number === 0) await call.mkdir(at('kept'))
    const body = pattern(50 + ((number * 977) % 9000), number)
    await call.mkdir(at(`new-${number}`))
    await call.writeFile(at(`new-${number}/file`), body)
    await call.rename(at(`new-${number}`), at('old'))
    await call.rename(at('old/file'), at(`kept/file-${number}`))
    await call.rmdir(at('old'))
    this.contents.set(`renamed/kept/file-${number}`, body)
    const last = number - KEPT
    if (last >= 0) {
      await call.unlink(at(`kept/file-${last}`))
      this.contents.delete(`renamed/kept/file-${last}`)
    }
    const names = (await call.names(at('kept'))).filter((name) => name.startsWith('file-'))
    const expected = Array.from(
      { length: Math.min(number + 1, KEPT) },
      (_, index) => `file-${number - index}`,
    )
    if (names.sort().join() !== expected.sort().join()) throw new Error(`kept/ lists ${names.join()}`)
    await this.#check(call, `renamed/kept/file-${number}`, body)
  }
}
