import { expect } from 'vitest'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { eventually, gone } from '../daemon/place.ts'
import type { Remote } from '../posix/agent.ts'
import { O_CREAT, O_RDONLY, O_RDWR } from '../posix/constants.ts'
import type { Begun, CrashOperation } from './crash-operations.ts'
import type { Ferry } from './ferry.ts'

const [LOCK_EX, LOCK_NB] = [2, 4]
const ENTRIES = 300
const BODY = 'content of a file without a name'
// Fewer deaths in a row than the supervisor takes without making the next worker wait; a hand-over begins the count anew.
const KILLS_AT_ONCE = 4

/** What an application has in its hands, and has to keep over every death of a worker. */
class Witness {
  readonly #call: Remote
  readonly #rival: Remote
  readonly #paths: { readonly locked: string; readonly many: string }
  readonly #nameless: number
  #stream = -1
  #seen: string[] = []
  #writes = 0

  private constructor(
    call: Remote,
    rival: Remote,
    paths: { readonly locked: string; readonly many: string },
    nameless: number,
  ) {
    this.#call = call
    this.#rival = rival
    this.#paths = paths
    this.#nameless = nameless
  }

  static async of(ferry: Ferry, call: Remote, rival: Remote): Promise<Witness> {
    const paths = { locked: ferry.at('locked'), many: ferry.at('many') }
    // Files of a mount that is gone cannot be closed without an error.
    await call.reset().catch(() => undefined)
    await call.writeFile(ferry.at('nameless'), BODY)
    const nameless = await call.open(ferry.at('nameless'), O_RDWR)
    await call.unlink(ferry.at('nameless'))
    const locked = await call.open(paths.locked, O_RDWR | O_CREAT)
    await call.flock(locked, LOCK_EX)
    await call.lock(locked, { type: 'write', start: 10, length: 5 })
    return new Witness(call, rival, paths, nameless)
  }

  async check(): Promise<void> {
    const call = this.#call
    await call.dropCache(this.#nameless)
    expect((await call.fstat(this.#nameless)).nlink).toBe(0)
    expect(Buffer.from(await call.read(this.#nameless, BODY.length, 0)).toString()).toBe(BODY)
    const at = 100 + this.#writes * 10
    await call.write(this.#nameless, `write ${this.#writes}`, at)
    await call.dropCache(this.#nameless)
    expect(Buffer.from(await call.read(this.#nameless, 100, at)).toString()).toBe(`write ${this.#writes}`)
    this.#writes += 1
    const rival = await this.#rival.open(this.#paths.locked, O_RDWR)
    await expect(this.#rival.flock(rival, LOCK_EX | LOCK_NB)).rejects.toThrow('EAGAIN')
    await expect(this.#rival.lock(rival, { type: 'write', start: 12, length: 1 })).rejects.toThrow(
      /EAGAIN|EACCES/,
    )
    await this.#rival.lock(rival, { type: 'write', start: 20, length: 1 })
    await this.#rival.close(rival)
    await this.#readOn()
  }

  /** A few entries more of a listing, which is begun again when it has ended. */
  async #readOn(): Promise<void> {
    if (this.#stream < 0) this.#stream = await this.#call.open(this.#paths.many, O_RDONLY)
    const some = await this.#call.readEntries(this.#stream, 2000)
    this.#seen.push(...some.map(({ name }) => name.toString()))
    if (some.length > 0) return
    const names = this.#seen.filter((name) => name.startsWith('file-'))
    expect(names.sort()).toEqual(Array.from({ length: ENTRIES }, (_, n) => `file-${n}`).sort())
    await this.#call.close(this.#stream)
    this.#stream = -1
    this.#seen = []
  }
}

/** A mounted daemon that dies again and again at named points, with an application that must not notice. */
export class CrashRun {
  readonly ferry: Ferry
  readonly #mode: string
  readonly #call: Remote
  readonly #hands: readonly [holder: Remote, rival: Remote]
  #witness: Witness | undefined
  #runs = 0
  #kills = 0

  private constructor(ferry: Ferry, mode: string) {
    this.ferry = ferry
    this.#mode = mode
    this.#call = ferry.call
    this.#hands = [ferry.as(null).call, ferry.as(null).call]
  }

  static async start(ferry: Ferry, mode: string): Promise<CrashRun> {
    await ferry.mount('--mode', mode)
    await ferry.call.mkdir(ferry.at('many'))
    await ferry.call.createFiles(ferry.at('many'), 'file-', 0, ENTRIES)
    const run = new CrashRun(ferry, mode)
    await run.#takeHold()
    return run
  }

  async #takeHold(): Promise<void> {
    this.#witness = await Witness.of(this.ferry, ...this.#hands)
  }

  /** A directory of its own for what comes next. */
  async directory(): Promise<string> {
    this.#runs += 1
    const path = this.ferry.at(`run-${this.#runs}`)
    await this.#call.mkdir(path)
    return path
  }

  async begin(operation: CrashOperation): Promise<Begun> {
    return operation.begin(this.#call, await this.directory())
  }

  /** The worker dies at the point while `act` runs, which sees nothing of it; its successor serves when this resolves. */
  async dies<T>(points: string | readonly string[], act: () => Promise<T>): Promise<T> {
    const { ferry } = this
    const { workerStarts } = await ferry.status()
    const all = typeof points === 'string' ? [points] : points
    ferry.arm(...all)
    const result = await act()
    await eventually(`the crash at ${all.join(', ')}`, () => ferry.fired)
    await ferry.until('the next worker', (report) => report.workerStarts >= workerStarts + all.length)
    this.#kills += all.length
    if (this.#kills >= KILLS_AT_ONCE) {
      await ferry.handOver()
      this.#kills = 0
    }
    await this.#witness?.check()
    return result
  }

  /** Worker and supervisor die at the point while `act` runs, which fails or not; a new mount is there when this resolves. */
  async diesForGood(point: string, act: () => Promise<unknown>): Promise<void> {
    const { ferry } = this
    const { pid, supervisorPid } = await ferry.status()
    ferry.arm(`${point}!`)
    const ended = act().catch((error: unknown) => error)
    await eventually(`the crash at ${point}`, () => ferry.fired)
    await gone(supervisorPid)
    await gone(pid)
    // Whoever waits for an answer is told that nobody will give it.
    expect(String((await ended) ?? '')).toMatch(/^$|ENOTCONN|ECONNABORTED/)
    await ferry.mount()
    this.#kills = 0
    await this.#takeHold()
  }

  /** Everything reached the store once in effect, and every object is what the catalog and the volume have. */
  async settle(): Promise<StatusReport> {
    const { ferry } = this
    const report = await ferry.settled()
    await ferry.done('migrate', ferry.target, '--wait')
    const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
    expect(status, stdout).toBe(0)
    expect(report.mode).toBe(this.#mode)
    return report
  }
}
