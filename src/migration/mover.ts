import { isRegular } from '../base/attributes.ts'
import { BoundedList } from '../base/bounded-list.ts'
import { delay, Semaphore, untilAborted } from '../base/concurrency.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import { isStored } from '../catalog/index.ts'
import { matches, oweIfChangedPast } from '../content/index.ts'
import type { Overlay, OverlayContext, Resolved } from '../overlay/index.ts'
import { LeftFiles } from './left-files.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'
import type { Reaper } from './reaper.ts'
import { printableBelow } from './verify.ts'
import { walk } from './walker.ts'

export type MoverState = 'idle' | 'scanning' | 'running' | 'paused' | 'done'

export interface MoverResult {
  readonly files: number
  readonly bytes: number
  /** Of what was there when the run began: not in the store, as it was then or later. */
  readonly remaining: number
  /** Made or changed since, and not in the store as they are now. */
  readonly changed: number
}

const TRIES = 20
const BUSY_WAIT_MS = 500
// A run that left files is made again: what kept them may have passed. Each walks the whole tree, so ever later.
const FIRST_AGAIN_MS = 5000
const LONGEST_AGAIN_MS = 3_600_000

/**
 * Copies everything that was never touched, in the background, with bounded concurrency and rate; where the policy says
 * so, has the legacy copies removed afterwards. What a run was asked for is remembered, so a successor goes on with it.
 */
export class Mover {
  readonly #context: OverlayContext
  readonly #overlay: Overlay
  readonly #reaper: Reaper
  readonly #listeners = new Set<(progress: RunProgress) => void>()
  #unreadable = unreadableFiles()
  #left: LeftFiles | undefined
  #concurrency: number
  #rate = 0
  #state: MoverState = 'idle'
  #running: Promise<MoverResult> | undefined
  #paused = false
  #resume: Array<() => void> = []
  #stopped = false
  /** Aborted when the run is to end: whatever it waits for. */
  readonly #halt = new AbortController()
  #meter: ProgressMeter
  #nextAt = 0
  /** Aborted when another rate is set: nobody waits by the old one. */
  #pace = new AbortController()
  #again: NodeJS.Timeout | undefined
  #againMs = FIRST_AGAIN_MS

  constructor(context: OverlayContext, overlay: Overlay, reaper: Reaper, concurrency: number) {
    this.#context = context
    this.#overlay = overlay
    this.#reaper = reaper
    this.#concurrency = concurrency
    this.#meter = this.#newMeter()
    if (context.catalog.meta.get('migration') === 'done') this.#state = 'done'
    if (context.catalog.meta.get('migration') === 'paused') {
      this.#state = 'paused'
      this.#paused = true
    }
    this.#rate = Number(context.catalog.meta.get('migration-rate') ?? 0)
    this.#concurrency = Number(context.catalog.meta.get('migration-concurrency') ?? concurrency)
  }

  get state(): MoverState {
    return this.#paused && this.#state !== 'idle' && this.#state !== 'done' ? 'paused' : this.#state
  }

  /** Files that could not even be looked at in this run, or the one before. */
  get unreadable(): Pick<BoundedList<{ readonly path: string; readonly reason: string }>, 'items' | 'count'> {
    return this.#unreadable
  }

  get progress(): RunProgress {
    return this.#meter.now()
  }

  /** Goes on with a run that a predecessor began. */
  continueIfBegun(): void {
    const wanted = this.#context.catalog.meta.get('migration')
    if (wanted === 'running' || wanted === 'paused') void this.run({}, () => undefined).catch(() => undefined)
  }

  /** Starts a run or joins the one under way; resolves at its end. Options stay in force. */
  async run(
    options: { rate?: number; concurrency?: number },
    onProgress: (progress: RunProgress) => void,
  ): Promise<MoverResult> {
    const { catalog } = this.#context
    catalog.transaction(() => {
      if (options.rate !== undefined) catalog.meta.set('migration-rate', String(options.rate))
      if (options.concurrency !== undefined)
        catalog.meta.set('migration-concurrency', String(options.concurrency))
      if (!this.#paused) catalog.meta.set('migration', 'running')
    })
    clearTimeout(this.#again)
    if (options.rate !== undefined && options.rate !== this.#rate) {
      this.#rate = options.rate
      this.#nextAt = 0
      this.#pace.abort()
      this.#pace = new AbortController()
    }
    this.#concurrency = options.concurrency ?? this.#concurrency
    this.#listeners.add(onProgress)
    try {
      this.#running ??= within('the migration', () => this.#move())
        .catch((error: unknown) => {
          this.#state = 'idle'
          this.#tryAgain()
          throw error
        })
        .finally(() => {
          this.#running = undefined
        })
      return await this.#running
    } finally {
      this.#listeners.delete(onProgress)
    }
  }

  pause(): void {
    this.#paused = true
    this.#remember('paused')
  }

  resume(): void {
    this.#paused = false
    for (const go of this.#resume) go()
    this.#resume = []
    if (this.#context.catalog.meta.get('migration') === 'paused') {
      this.#remember('running')
      this.continueIfBegun()
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#halt.abort(new FsError('EIO', 'the daemon is stopping'))
    this.#paused = false
    clearTimeout(this.#again)
    for (const go of this.#resume) go()
    await this.#running?.catch(() => undefined)
  }

  async #move(): Promise<MoverResult> {
    const { log } = this.#context
    this.#state = 'scanning'
    this.#meter = this.#newMeter()
    this.#unreadable = unreadableFiles()
    this.#left = new LeftFiles(this.#context.catalog)
    const slots = new Semaphore(this.#concurrency)
    const underWay = new Set<Promise<void>>()
    const walked = walk(this.#context, this.#overlay, (path, error) => {
      this.#unreadable.add({ path: printableBelow(path), reason: reasonOf(error) })
      log.warn({ err: error, path: printableBelow(path) }, 'a file cannot be looked at')
    })
    for await (const batch of walked) {
      this.#state = 'running'
      this.#meter.phase = 'copying'
      for (const met of batch) {
        await this.#gate()
        if (this.#stopped) break
        this.#meter.filesTotal += 1
        this.#meter.bytesTotal += met.inode.size
        if (this.#isCurrent(met)) {
          this.#count(met.inode.size)
          continue
        }
        // Until it is in the store as it is now, it does not count as stored.
        oweIfChangedPast(this.#context, met.inode.ino)
        await slots.acquire()
        const { ino, size } = met.inode
        const task = within(
          () => `the migration of inode ${ino}`,
          () => this.#store(ino, size),
        ).finally(() => {
          slots.release()
          underWay.delete(task)
        })
        underWay.add(task)
      }
      if (this.#stopped) break
      if (this.#context.catalog.tight) await this.#makeRoom(underWay)
    }
    await Promise.all(underWay)
    if (!this.#stopped && this.#unreadable.count === 0) await this.#overlay.names.removal.metEverything()
    return this.#finish()
  }

  /** The state directory may be on the volume itself: what is in the store goes before more is copied. */
  async #makeRoom(underWay: ReadonlySet<Promise<void>>): Promise<void> {
    if (!this.#context.policy().removesLegacy) return
    await Promise.all(underWay)
    await this.#settleOutbox()
    if (!this.#stopped) await this.#reaper.sweep(() => this.#gate().then(() => !this.#stopped))
  }

  async #finish(): Promise<MoverResult> {
    const { catalog, carrier, policy } = this.#context
    if (!this.#stopped) {
      this.#meter.phase = 'finishing'
      this.#meter.tick(true)
      await this.#settleOutbox()
      if (policy().removesLegacy) {
        this.#meter.phase = 'removing'
        await this.#reaper.sweep(() => {
          this.#meter.tick()
          return this.#gate().then(() => !this.#stopped)
        })
        await carrier.idle(5000)
      }
    }
    const unstored = catalog.lists.unstoredCount()
    const left = Math.min(unstored, this.#left?.count() ?? 0)
    const remaining = left + this.#unreadable.count
    const isDone = !this.#stopped && unstored + this.#unreadable.count === 0
    this.#state = isDone ? 'done' : 'idle'
    if (!this.#stopped) this.#conclude(isDone)
    this.#meter.tick(true)
    return { files: this.#meter.files, bytes: this.#meter.bytes, remaining, changed: unstored - left }
  }

  /** What was left is tried again by itself (P4); a successor goes on with it, too. */
  #conclude(isDone: boolean): void {
    if (isDone) {
      this.#againMs = FIRST_AGAIN_MS
      this.#remember('done')
      return
    }
    this.#tryAgain()
  }

  #tryAgain(): void {
    if (this.#stopped || this.#context.carrier.fenced) return
    this.#again = setTimeout(() => {
      if (this.#context.policy().copies) void this.run({}, () => undefined).catch(() => undefined)
    }, this.#againMs)
    this.#again.unref()
    this.#againMs = Math.min(LONGEST_AGAIN_MS, this.#againMs * 2)
  }

  /** Waits for what is owed, as long as that gets less. */
  async #settleOutbox(): Promise<void> {
    const { carrier, catalog } = this.#context
    for (let before = Number.POSITIVE_INFINITY; ; ) {
      await this.#gate()
      await this.#unlessStopped(carrier.whenUp()).catch(() => undefined)
      if (this.#stopped || carrier.fenced || (await carrier.idle(3000))) return
      const now = catalog.outbox.length
      if (now >= before) return
      before = now
      this.#meter.tick()
    }
  }

  #isCurrent({ inode, stat }: Resolved): boolean {
    if (!isStored(inode)) return false
    return !stat || !isRegular(stat.mode) || matches(inode.fingerprint, stat)
  }

  /** One file, however often the store goes away meanwhile. A file that cannot be stored is listed and left. */
  async #store(ino: bigint, size: number): Promise<void> {
    const { uploader, carrier } = this.#context
    for (let tries = 1; tries <= TRIES && !this.#stopped; tries += 1) {
      try {
        await this.#gate()
        await this.#unlessStopped(carrier.whenUp())
        await this.#throttle(size)
        const result = await uploader.upload(ino)
        if (result !== 'busy') this.#count(size)
        if (result === 'behind') break
        if (result !== 'busy') return
        await this.#unlessStopped(delay(BUSY_WAIT_MS))
      } catch (error) {
        if (this.#stopped || carrier.fenced) return
        // A store that is down is waited for. One that answers, but never for this file, must not keep the run from its end.
        if (carrier.noteFailure(error) && tries < TRIES) continue
        await this.#context.catalog.ready()
        carrier.recordFailure(ino, error)
        break
      }
    }
    // What was stored of it may be older than what is there: it follows.
    oweIfChangedPast(this.#context, ino)
    this.#left?.add(ino)
  }

  /** Spaces files so that the rate is kept over time; a large file is followed by a longer pause. */
  async #throttle(size: number): Promise<void> {
    if (this.#rate <= 0) return
    const now = performance.now()
    const start = Math.max(now, this.#nextAt)
    this.#nextAt = start + (size / this.#rate) * 1000
    if (start <= now) return
    const { signal } = this.#pace
    await this.#unlessStopped(untilAborted(delay(start - now), signal).catch(() => undefined))
  }

  #unlessStopped<T>(wait: Promise<T>): Promise<T> {
    return untilAborted(wait, this.#halt.signal)
  }

  async #gate(): Promise<void> {
    while (this.#paused && !this.#stopped) await new Promise<void>((resolve) => this.#resume.push(resolve))
    await this.#unlessStopped(Promise.resolve(this.#context.catalog.ready())).catch(() => undefined)
  }

  #count(size: number): void {
    this.#meter.files += 1
    this.#meter.bytes += size
    this.#meter.tick()
  }

  #newMeter(): ProgressMeter {
    return new ProgressMeter('scanning', (progress) => {
      for (const listener of this.#listeners) listener(progress)
    })
  }

  #remember(state: string): void {
    const { catalog } = this.#context
    if (state === 'paused' && catalog.meta.get('migration') !== 'running') return
    catalog.transaction(() => catalog.meta.set('migration', state))
  }
}

const unreadableFiles = () =>
  new BoundedList<{ readonly path: string; readonly reason: string }>(
    ({ path, reason }) => path.length + reason.length,
  )
