import { readdirSync } from 'node:fs'
import { type Mode, type Policy, policyOf } from '../../src/base/modes.ts'
import type { Action, Reply } from './actions.ts'
import { afterCut, lookAgain } from './after-cut.ts'
import { Client, Hang } from './clients/client.ts'
import { Delays, STALL_MS } from './delays.ts'
import { LegacyWatch } from './deletions.ts'
import { isCombined } from './faults/combined.ts'
import { type Conductor, excusesClose, type Fault } from './faults/fault.ts'
import { faultNamed } from './faults/index.ts'
import { finalChecks } from './final-checks.ts'
import { Gate } from './gate.ts'
import { differences } from './model/compare.ts'
import { SharedArea } from './model/shared.ts'
import { Contradiction, type Subtree } from './model/subtree.ts'
import { Pace } from './pace.ts'
import { type CellResult, type Collector, shownMode } from './report/collector.ts'
import { type Phase, type Script, SLOTS, type Turn } from './script.ts'
import { seedVolume } from './seeds.ts'
import { SourceSeal } from './source-seal.ts'
import { Violation } from './violation.ts'
import { Late } from './world/daemon.ts'
import type { World } from './world/world.ts'

// Longer than any operation may take: the time of one wait for the store and what a restart adds.
const HANG_MS = 75_000
// Faults that want legacy files which have not been copied yet.
const UNMOVED = new Set(['kill-at-points', 'changed-past'])
// Each excused failure may double what a subtree can be. A client that has met so many stops until the fault is over.
const MOST_TREES = 64
const RECOVERY_MS = 90_000
// How often legacy files that have gone are looked for.
const WATCH_MS = 25

export interface Member {
  readonly client: Client
  readonly subtree: Subtree
}

/** One mount from its beginning to its end: the clients' work, the faults, and everything that is checked. */
export class Session {
  readonly world: World
  readonly mode: Mode
  readonly members: readonly Member[]
  readonly reader: Client
  /** Files that no client changes, by path below the mount. */
  readonly untouched: Map<string, Buffer>
  readonly shared = new SharedArea()
  readonly #script: Script
  readonly #collector: Collector
  readonly #lane: number
  readonly #watch: LegacyWatch
  readonly policy: Policy
  #fault: Fault | undefined
  #cell: CellResult
  #phase = 0
  #records = 0
  readonly #pace = new Pace()
  readonly #gate = new Gate()
  readonly #inFlight = new Set<Promise<unknown>>()
  readonly #delays: Delays
  /** What the legacy volume was, where nobody may touch it. */
  readonly seal: SourceSeal | undefined

  constructor(world: World, mode: Mode, script: Script, collector: Collector, lane: number) {
    this.world = world
    this.mode = mode
    this.policy = policyOf(mode, world.settings.variant === 'source-readonly')
    this.#script = script
    this.#collector = collector
    this.#lane = lane
    this.#cell = collector.cell(mode, 'none', world.settings.variant)
    const seeds = seedVolume(world.legacy, script.phases)
    this.untouched = seeds.untouched
    this.members = seeds.subtrees.map((subtree, index) => ({
      client: new Client(`c${index}`, `${world.target}/c${index}`),
      subtree,
    }))
    this.reader = new Client('reader', world.target)
    // What a replica hands out damaged a read repair of the store's own writes to those that are behind.
    const spreads = script.phases.some(({ fault = '' }) => fault.split('+').includes('corrupted-value'))
    this.#watch = new LegacyWatch(world, this.untouched, spreads ? 1 : 2)
    this.#delays = new Delays(Number.parseInt(world.settings.opTimeout, 10) * 1000)
    this.seal = world.settings.variant === 'source-readonly' ? new SourceSeal(world.legacy) : undefined
  }

  /** @throws Violation; any other error is one of the harness or of its surroundings */
  async run(): Promise<void> {
    const timer = setInterval(() => this.#watch.look(), WATCH_MS)
    try {
      await this.#mount()
      for (const [index, phase] of this.#script.phases.entries()) {
        this.#phase = index
        await this.#runPhase(phase)
      }
      this.#watch.check()
      await finalChecks(this)
      this.#watch.check()
    } catch (error) {
      throw this.#judged(error)
    } finally {
      clearInterval(timer)
      await this.world.daemon.clear()
      for (const { client } of this.members) await client.end()
      await this.reader.end()
    }
  }

  get #sends(): boolean {
    return this.copies || this.policy.writeTo === 'store'
  }

  get copies(): boolean {
    return this.policy.copies
  }

  /** An action of a client, compared with the model of its subtree. */
  async act(member: Member, action: Action): Promise<void> {
    const filled = this.#filled(member, action)
    const lines = this.shared.lines
    const { reply: heard, detached } = await this.call(member.client, filled)
    const reply = this.#isOnlyUnacknowledged(filled, heard) ? { ...heard, errno: undefined } : heard
    if (filled.do === 'record') {
      if (reply.errno !== undefined && !detached) this.#mustBeExcused(member, filled, reply)
      this.shared.recorded(filled.line, reply.errno === undefined)
      if (filled.fsync && reply.errno === undefined) this.shared.synced([...lines, filled.line])
    } else if (filled.do === 'publish') {
      if (reply.errno === undefined) this.shared.published(filled.fsync)
      else if (!detached) this.#mustBeExcused(member, filled, reply)
    } else if (detached && reply.errno !== undefined) {
      member.subtree.unanswered(filled)
    } else {
      this.#explained(member.client, reply, () =>
        member.subtree.answered(filled, reply, (one, errno) => this.excuses(one, errno)),
      )
    }
  }

  /** A file that no client changes, read past the page cache and compared. False where the fault excuses a failure. */
  async readUntouched(path: string): Promise<boolean> {
    const action: Action = { do: 'read', path, offset: 0, length: 1 << 17, direct: true }
    const begun = performance.now()
    const { reply, detached } = await this.call(this.reader, action)
    this.#mustNotHaveWaited(path, performance.now() - begun)
    if (reply.errno !== undefined) {
      if (detached || this.excuses(action, reply.errno)) return false
      throw new Violation(`${this.#promiseOf(reply)}: reading ${path}: ${reply.errno} in ${reply.step}`)
    }
    const expected = this.untouched.get(path)
    if (!expected?.equals(Buffer.from(reply.data ?? '', 'base64'))) {
      throw new Violation(`P1: reading ${path}: other bytes than it was filled with`)
    }
    return true
  }

  /** One turn of a client, as soon as something is mounted. @throws Violation of P6 for one that hangs */
  async call(client: Client, action: Action): Promise<{ reply: Reply; detached: boolean }> {
    const { before, started, answer } = await this.#gate.pass(() => {
      const begun = {
        before: this.#gate.changes,
        started: performance.now(),
        answer: client.call(action, HANG_MS),
      }
      this.#inFlight.add(begun.answer)
      return begun
    })
    try {
      const reply = await answer
      const excused = reply.errno !== undefined && this.excuses(action, reply.errno)
      const ms = performance.now() - started
      this.#delays.took(ms)
      this.#collector.operation(this.#cell, {
        action,
        ms,
        errno: reply.errno,
        excused,
        readBytes: reply.data === undefined ? undefined : Math.floor((reply.data.length * 3) / 4),
      })
      return { reply, detached: this.#gate.changes !== before }
    } catch (error) {
      if (!(error instanceof Hang)) throw error
      throw new Violation(`P6: client ${client.name}: ${action.do}: ${error.message}`)
    } finally {
      this.#inFlight.delete(answer)
      if (!this.#gate.isInspected) this.#pace.stepDone()
    }
  }

  async #mount(): Promise<void> {
    const { daemon } = this.world
    await this.world.open()
    if (this.policy.needsLegacy) {
      await daemon.mount(this.mode)
      // The mover works while the first faults come, unless a fault needs files that nobody has moved.
      const untouched = this.#script.phases.some(({ fault }) =>
        fault?.split('+').some((one) => UNMOVED.has(one)),
      )
      if (this.policy.copies && !untouched) void daemon.run('migrate', daemon.places.target)
      return
    }
    await daemon.mount('mirror')
    const left = await daemon.migrate()
    if (left > 0) throw new Violation(`P4: ${left} files are left after a migration with nothing wrong`)
    if (!(await daemon.mode(this.mode)))
      throw new Violation(`P4: mode ${this.mode} is refused after a migration`)
  }

  async #runPhase(phase: Phase): Promise<void> {
    const fault = phase.fault === undefined ? undefined : faultNamed(phase.fault)
    const idle = fault?.unavailable?.(this.world) ?? fault?.idleIn?.(this.policy)
    this.#cell = this.#collector.cell(this.mode, fault?.name ?? 'none', this.world.settings.variant)
    this.#cell.runs += 1
    if (idle !== undefined) this.#cell.remarks.add(idle)
    const active = idle === undefined ? fault : undefined
    this.#delays.before()
    await this.#work(phase.before)
    const span = this.#collector.begin(this.#lane, this.mode, fault?.name ?? 'none')
    this.#fault = active
    if (active?.begin) {
      this.#cell.injected += 1
      await active.begin(this.#conductor())
    }
    this.#watch.check()
    this.#delays.during()
    this.#pace.begins()
    const work = Promise.all([this.#work(phase.during), this.#readSeeds(this.#phase)])
    await Promise.all([
      work.finally(() => this.#pace.ends()),
      this.#strike(active, phase.during),
      this.#excursion(phase, active),
    ])
    this.#cell.delayedMs += this.#delays.end()
    if (active && this.#hidesTheStore(active)) this.#delays.check()
    if (active?.name === 'hostile-tree') this.#delays.checkBystanders()
    await active?.end?.(this.#conductor())
    // What could not be looked at after the cut, because something else was away, too.
    if (active?.groups.includes('power') && isCombined(active)) await lookAgain(this, this.#note)
    span.toMs = this.#collector.elapsedMs
    this.#watch.check()
    await this.#recovered()
    this.#fault = undefined
    await this.#resolveDoubts()
    await this.#work(phase.after)
  }

  async #work(turns: readonly Turn[]): Promise<void> {
    await Promise.all(
      turns.map(async (turn, index) => {
        const member = this.members[index]
        if (!member) return
        for (const action of turn) {
          if (member.subtree.trees.length > MOST_TREES) break
          await this.act(member, action)
        }
      }),
    )
  }

  async #readSeeds(phase: number): Promise<void> {
    for (const path of this.untouched.keys()) {
      if (path.startsWith(`seed/${phase}/`)) await this.readUntouched(path)
    }
  }

  /** The fault acts when so much of the work is done, not at a time. */
  async #strike(fault: Fault | undefined, turns: readonly Turn[]): Promise<void> {
    const strikes = fault?.strike ? (fault.strikes ?? 1) : 0
    const total = turns.reduce((sum, turn) => sum + turn.length, 0)
    const from = this.#pace.done
    for (let nth = 0; nth < strikes; nth += 1) {
      await this.#pace.reached(from + Math.floor(((nth + 1) * total) / (strikes + 1)))
      this.#cell.injected += 1
      await fault?.strike?.(this.#conductor(), nth)
    }
  }

  /** A store that is away and nothing else wrong, in a mode in which nobody need wait for it. */
  #hidesTheStore({ name }: Fault): boolean {
    const away = name === 'outage' || name === 'black-hole'
    return away && this.world.settings.variant === 'plain' && this.policy.writeTo === 'legacy' && this.copies
  }

  /** Where the volume has what is read, a store that is slow or away is not waited for, whatever its limits are. */
  #mustNotHaveWaited(path: string, ms: number): void {
    const fault = this.#fault
    if (!fault?.groups.includes('network') || isCombined(fault) || ms <= STALL_MS) return
    if (this.policy.readFrom !== 'store' || this.policy.writeTo !== 'legacy') return
    const waited = `${(ms / 1000).toFixed(1)} s`
    throw new Violation(
      `P6: reading ${path} took ${waited} though the volume has it; ${STALL_MS / 1000} s is a stall`,
    )
  }

  /** Another mode and back, where the way back is open. */
  async #excursion({ excursion }: Phase, fault: Fault | undefined): Promise<void> {
    if (excursion === undefined || excursion === this.mode) return
    if (!fault?.groups.includes('network') || isCombined(fault)) return
    const { daemon, settings } = this.world
    if (settings.variant === 'source-readonly') return
    if (policyOf(excursion, false).writeTo !== this.policy.writeTo) return
    if (!(await daemon.mode(excursion))) return
    const back = async (): Promise<boolean> => daemon.mode(this.mode)
    if (await back()) return
    // Only into store-only, which waits for everything to be there.
    this.#returns = true
  }

  readonly #note = (key: string): void => void this.#cell.notes.add(key)

  #returns = false
  /** Objects were damaged for good: the first look finds them, and has them written again. */
  damaged = false

  /** P4: with the fault gone, everything owed reaches the store by itself. */
  async #recovered(): Promise<void> {
    const { daemon } = this.world
    await daemon.until('P4: the store answers and nothing is owed to it', RECOVERY_MS, (report) => {
      return report.store.healthy && (!this.#sends || report.outbox.length === 0)
    })
    if (!this.#returns) return
    this.#returns = false
    await daemon.migrate()
    if (!(await daemon.mode(this.mode))) throw new Violation(`P4: no way back into mode ${this.mode}`)
  }

  /** With the fault over, a look at each tree says which failures took effect. */
  async #resolveDoubts(): Promise<void> {
    for (const { client, subtree } of this.members) {
      if (subtree.trees.length === 1) continue
      const { reply } = await this.call(client, { do: 'walk', path: '', content: false })
      const { tree } = reply
      if (!tree) throw new Violation(`P6: ${client.name} cannot be walked after the fault: ${reply.errno}`)
      this.#explained(client, { id: 0 }, () =>
        subtree.observed((model) => differences(model, tree, { content: false })),
      )
    }
  }

  #conductor(): Conductor {
    const [first] = this.members
    if (!first) throw new Error('a session has clients')
    return {
      world: this.world,
      mode: this.mode,
      policy: this.policy,
      phase: this.#phase,
      remounting: (body) => this.#remounting(body),
      cutting: (body) => this.#cutting(body),
      perform: (action) => this.act(first, action),
      changedPast: (path, content) => {
        this.untouched.set(path, content)
      },
      readPast: async (path) => {
        const action: Action = { do: 'read', path, offset: 0, length: 1 << 17, direct: true }
        const { reply } = await this.call(this.reader, action)
        if (reply.errno !== undefined) throw new Error(`${path}: ${reply.errno}`)
        return Buffer.from(reply.data ?? '', 'base64')
      },
      ask: async (action) => (await this.call(this.reader, action)).reply,
      moved: () => this.#moved(),
      damaged: () => {
        this.damaged = true
      },
      notInjected: (why) => {
        this.#cell.injected -= 1
        this.#cell.remarks.add(why)
      },
      note: this.#note,
    }
  }

  async #moved(): Promise<void> {
    const { daemon, legacy } = this.world
    await daemon.migrate()
    await daemon.until('P4: everything in the store', RECOVERY_MS, ({ files, outbox }) => {
      const left = this.policy.removesLegacy ? readdirSync(legacy).length : 0
      return files.pending === 0 && files.dirty === 0 && outbox.length === 0 && left === 0
    })
    // A directory has left the volume a moment before the daemon notes it; until then unknown names in it are asked for there.
    if (this.policy.removesLegacy) await daemon.migrate()
  }

  async #cutting(body: () => Promise<void>): Promise<void> {
    this.#watch.check()
    this.#watch.pause()
    await this.#remounting(async () => {
      await body()
      this.#watch.resume()
      await Promise.allSettled(this.#inFlight)
      // What their clients make of the last answers comes first.
      await new Promise((resolve) => setImmediate(resolve))
      this.#gate.inspect()
      await afterCut(this, this.#note)
    })
    this.#watch.check()
  }

  async #remounting(body: () => Promise<void>): Promise<void> {
    this.#gate.close()
    try {
      await body()
      // What was under way when the mount went has got its error by now, or gets it from the new one.
      await Promise.allSettled(this.#inFlight)
      await this.releaseAll()
    } finally {
      this.#gate.open()
    }
  }

  /** Closes everything that the clients have open. */
  async releaseAll(): Promise<void> {
    for (const { client, subtree } of this.members) {
      for (let slot = 0; slot < SLOTS; slot += 1) await client.call({ do: 'release', slot }, HANG_MS)
      subtree.releaseAll()
    }
  }

  #filled({ client }: Member, action: Action): Action {
    const mark = `${client.name}-${this.#records}`
    if (action.do === 'record') {
      this.#records += 1
      return { ...action, path: '../shared/log', line: `<${mark}:${'='.repeat(40)}>\n` }
    }
    if (action.do === 'publish') {
      this.#records += 1
      const text = `${mark} `.repeat(100 + (this.#records % 50))
      this.shared.publishes(text)
      return { ...action, path: '../shared/current', temporary: `../shared/tmp-${mark}`, text }
    }
    return action
  }

  /** Whether the fault in force is a reason for an action to fail so. */
  excuses(action: Action, errno: string): boolean {
    const fault = this.#fault
    if (!fault) return false
    if (fault.excuses?.(this.policy, action, errno)) return true
    const waits = this.world.settings.variant === 'ack-store' && fault.groups.includes('network')
    return waits && this.#sends && excusesClose(action, errno)
  }

  /** With --ack store: all of it was done and is safe here, and a store that is away has not said so. */
  #isOnlyUnacknowledged(action: Action, { errno, step }: Reply): boolean {
    const { variant } = this.world.settings
    const groups = this.#fault?.groups ?? []
    if (variant !== 'ack-store' || !groups.includes('network') || action.do === 'publish') return false
    if (groups.includes('disks') || groups.includes('volume')) return false
    return (step === 'close' || step === 'fsync') && errno !== undefined && this.excuses(action, errno)
  }

  #mustBeExcused(member: Member, action: Action, reply: Reply): void {
    const { errno = '' } = reply
    if (this.excuses(action, errno)) return
    throw new Violation(
      `${this.#promiseOf(reply)}: client ${member.client.name}: ${action.do}: ${errno} in ${reply.step}`,
    )
  }

  #explained({ name }: Client, reply: Reply, body: () => void): void {
    try {
      body()
    } catch (error) {
      if (!(error instanceof Contradiction)) throw error
      throw new Violation(`${this.#promiseOf(reply)}: client ${name}: ${error.message}`)
    }
  }

  /** An errno where none may be breaks P7 while processes die and P6 otherwise; a wrong answer always P1. */
  #promiseOf({ errno }: Reply): string {
    if (errno === undefined) return 'P1'
    return this.#fault?.groups.includes('processes') ? 'P7' : 'P6'
  }

  #judged(error: unknown): unknown {
    const where = `mode ${shownMode(this.mode, this.world.settings.variant)}, phase ${this.#phase + 1} (${this.#script.phases[this.#phase]?.fault ?? 'no fault'})`
    if (error instanceof Violation || error instanceof Contradiction || error instanceof Late) {
      this.#cell.violations += 1
      const violation = new Violation(`${error.message} [${where}]`)
      violation.log = this.world.daemon.lastLog()
      return violation
    }
    if (error instanceof Error) error.message += ` [${where}]`
    return error
  }
}
