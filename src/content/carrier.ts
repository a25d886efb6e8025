import { isDirectory } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import { type Garbage, isStored, type Work } from '../catalog/index.ts'
import { StoreError, StoreSuperseded } from '../store/errors.ts'
import type { ContentContext } from './context.ts'
import type { DirectoryWriter } from './directory-writer.ts'
import { GarbageCollector } from './garbage.ts'
import { GoneDirectories } from './gone-directories.ts'
import { isHeld } from './held.ts'
import { Postponed } from './postponed.ts'
import { StoreOutage } from './store-outage.ts'
import { oweIfChangedPast } from './takeover.ts'
import type { Uploader } from './uploader.ts'

// A file that is open for writing is left alone until it was quiet for so long, but not for ever.
const QUIET_MS = 1000
const PATIENCE_MS = 15_000
// Directory records are written when nothing else is waiting, or when they have waited for so long.
const DIRECTORY_PATIENCE_MS = 2000
// So many times longer than its last copy took a file that changes all the time is left alone in the end.
const COPYING_SHARE = 9
const LATER_MS = 100
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 10_000
const FIRST_RETRY_MS = 2000
const LONGEST_RETRY_MS = 300_000
const SCAN_ROWS = 256
const DIRECTORY_ROWS = 1024
// Of what is owed so much is looked at in one turn of the event loop.
const LOOKED_AT_ONCE = 1024

/** `run` says false where the task is not done and is not to be tried again before it was postponed to. */
type Task = { readonly name: string; readonly ino: bigint; run(): Promise<unknown> }

/**
 * Does the store work that the catalog owes, with bounded concurrency, until it succeeds. A store that is down pauses
 * all of it; a file that cannot be stored is set aside and listed, and never blocks the others.
 */
export class Carrier {
  readonly #context: ContentContext
  readonly #uploader: Uploader
  readonly #directories: DirectoryWriter
  readonly #active = new Map<string, Promise<void>>()
  readonly #wanted = new Set<bigint>()
  readonly #postponed = new Postponed()
  /** Uploads up to this one were looked at since then. */
  #after = 0n
  readonly #goneDirectories: GoneDirectories
  readonly #garbage: GarbageCollector
  #directoryWork = new Map<bigint, Work>()
  readonly #upWaiters = new Set<() => void>()
  readonly #idleWaiters = new Set<() => void>()
  /** A file was not found on the legacy volume; the overlay finds out what became of it. */
  onVanished: (ino: bigint) => void = () => undefined
  readonly #fenceStore: (reason: Error) => void
  #concurrency: number
  readonly #outage: StoreOutage
  #timer: NodeJS.Timeout | undefined
  #later: NodeJS.Timeout | undefined
  #scheduled = false
  /** Garbage waits for a flush of the catalog. */
  #ripening = false
  #stopped = false
  /** This daemon lost the namespace to another writer: nothing may be written any more. */
  #fenced: Error | undefined

  constructor(
    context: ContentContext,
    parts: {
      readonly uploader: Uploader
      readonly directories: DirectoryWriter
      readonly concurrency: number
      /** Has nothing more written to the store. */
      readonly fence: (reason: Error) => void
    },
  ) {
    this.#context = context
    this.#uploader = parts.uploader
    this.#directories = parts.directories
    this.#fenceStore = parts.fence
    this.#concurrency = parts.concurrency
    this.#outage = new StoreOutage(context, () => {
      this.#release(this.#upWaiters)
      this.wake()
    })
    this.#goneDirectories = new GoneDirectories(context)
    this.#garbage = new GarbageCollector(context, parts)
    // What waits for the uploads to end need not be looked for at each of them.
    context.catalog.outbox.onWork = (kind) => {
      if (kind === 'upload' || !parts.uploader.isBusy) this.wake()
      else this.#wakeLater()
    }
  }

  set concurrency(limit: number) {
    this.#concurrency = limit
    this.wake()
  }

  get concurrency(): number {
    return this.#concurrency
  }

  get fenced(): Error | undefined {
    return this.#fenced
  }

  /** The daemon ends: what is not done is no failure, it is left to the next. */
  get stopped(): boolean {
    return this.#stopped
  }

  /**
   * The file was read: copy it when there is time, unless the store has it as it is or the outbox has it. Of a first copy there
   * is no list but ours, so it is asked for again when it fails.
   */
  want(ino: bigint): void {
    const inode = this.#context.catalog.get(ino)
    if (!inode || inode.orphan || inode.dirty !== 0) return
    if (inode.version > 0) {
      oweIfChangedPast(this.#context, ino)
      return
    }
    if (this.#wanted.has(ino) || this.#wanted.size > 100_000) return
    this.#wanted.add(ino)
    this.wake()
  }

  wake(): void {
    if (this.#scheduled || this.#stopped) return
    this.#scheduled = true
    setImmediate(() => void this.#pumpWhenReady())
  }

  async #pumpWhenReady(): Promise<void> {
    // The choice may commit, and so does all that is begun by it.
    await this.#context.catalog.ready()
    this.#scheduled = false
    within('the choice of store work', () => this.#pump())
  }

  #wakeLater(): void {
    this.#later ??= setTimeout(() => {
      this.#later = undefined
      this.wake()
    }, LATER_MS).unref()
  }

  /** Resolves when the store is not known to be down. Rejects once fenced or stopped. */
  async whenUp(): Promise<void> {
    while (this.#outage.isUnderWay && !this.#stopped && !this.#fenced) {
      await new Promise<void>((resolve) => this.#upWaiters.add(resolve))
    }
    if (this.#fenced) throw this.#fenced
    if (this.#stopped) throw new FsError('EIO', 'the daemon is stopping')
  }

  /** Tells of a store error met elsewhere; true if waiting for the store and trying again makes sense. */
  noteFailure(error: unknown): boolean {
    if (error instanceof StoreSuperseded) {
      this.#fence(error)
      return false
    }
    if (!(error instanceof StoreError) || !error.retryable) return false
    this.#outage.begin(error)
    return true
  }

  /** Resolves when nothing is owed (true) or after `timeoutMs` (false). */
  async idle(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    this.#postponed.clear()
    this.wake()
    while (this.#active.size > 0 || this.#context.catalog.outbox.length > 0) {
      const left = deadline - performance.now()
      if (left <= 0 || this.#stopped) return false
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 100))
        this.#idleWaiters.add(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    return true
  }

  /** Starts nothing new and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#outage.stop()
    clearTimeout(this.#timer)
    clearTimeout(this.#later)
    this.#release(this.#upWaiters)
    await Promise.allSettled(this.#active.values())
  }

  #pump(): void {
    if (this.#stopped || this.#outage.isUnderWay || this.#fenced) return
    while (this.#active.size < this.#concurrency) {
      const task = this.#next()
      if (!task) break
      this.#start(task)
    }
    if (this.#active.size === 0) this.#release(this.#idleWaiters)
    this.#armTimer()
  }

  #start(task: Task): void {
    const running = within(task.name, task.run)
      .then(
        (done) => {
          if (done !== false) this.#postponed.forget(task.name)
        },
        async (error: unknown) => {
          await this.#context.catalog.ready()
          this.#failed(task, error)
        },
      )
      .finally(() => {
        this.#active.delete(task.name)
        this.#noteLeft(task)
        this.wake()
      })
    this.#active.set(task.name, running)
  }

  /** A file that is owed still, and was passed over while it was uploaded, comes up again. */
  #noteLeft({ name, ino }: Task): void {
    if (this.#stopped || !name.startsWith('upload:') || this.#postponed.has(name)) return
    const work = this.#context.catalog.outbox.find('upload', ino)
    if (work && work.seq <= this.#after) this.#postponed.longer(name, LATER_MS, LONGEST_PAUSE_MS)
  }

  #next(): Task | undefined {
    const { outbox } = this.#context.catalog
    const policy = this.#context.policy()
    let directory: Work | undefined
    if (policy.copies || policy.writeTo === 'store') {
      const upload = this.#nextUpload()
      if (upload) return upload
      const names = outbox.names(SCAN_ROWS).find((work) => this.#isReady(nameOf(work)))
      if (names) {
        const run = (): Promise<void> => this.#uploader.announceAll(names.ino)
        return { name: nameOf(names), ino: names.ino, run }
      }
      directory = this.#nextDirectory()
    }
    if (directory && (!this.#uploader.isBusy || outbox.oldestSeconds * 1000 > DIRECTORY_PATIENCE_MS)) {
      const { ino } = directory
      this.#directoryWork.delete(ino)
      return { name: nameOf(directory), ino, run: () => this.#writeDirectory(directory) }
    }
    const garbage = this.#nextGarbage()
    if (garbage) return garbage
    return policy.copies ? this.#nextWanted() : undefined
  }

  /**
   * The next file whose turn it is. Those that were looked at and have to wait are passed over until one of them may be ready: there
   * may be any number of them, and they are asked for after each upload.
   */
  #nextUpload(): Task | undefined {
    const { outbox } = this.#context.catalog
    if (this.#postponed.soonest <= performance.now()) {
      this.#postponed.soonest = Number.POSITIVE_INFINITY
      this.#after = 0n
    }
    for (let looked = 0; looked < LOOKED_AT_ONCE; ) {
      const batch = outbox.uploads(this.#after, SCAN_ROWS)
      for (const work of batch) {
        this.#after = work.seq
        if (this.#isReady(nameOf(work)) && !this.#isHeld(work.ino) && this.#isQuiet(work))
          return this.#upload(work.ino)
      }
      if (batch.length < SCAN_ROWS) return undefined
      looked += batch.length
    }
    this.wake()
    return undefined
  }

  /** What the last flushed catalog may still need is not garbage yet. */
  #nextGarbage(): Task | undefined {
    const { catalog } = this.#context
    if (catalog.doubts.any) return undefined
    let young = false
    const listed = catalog.outbox.garbage(SCAN_ROWS)
    // Of a file that is gone with more objects than one transaction lists, the next ones.
    if (listed.length < SCAN_ROWS && catalog.content.discarded > 0) {
      catalog.transaction(() => catalog.content.discardMore())
      this.wake()
    } else if (listed.length < SCAN_ROWS && this.#goneDirectories.step()) this.wake()
    for (const garbage of listed) {
      const name = `garbage:${garbage.space}:${garbage.key}`
      if (!this.#isReady(name)) continue
      if (catalog.outbox.isRipe(garbage)) {
        return { name, ino: garbage.ino, run: () => this.#garbage.collect(garbage) }
      }
      young = true
    }
    if (young && !this.#ripening) {
      this.#ripening = true
      catalog.afterFlush(() => {
        this.#ripening = false
        this.wake()
      })
    }
    return undefined
  }

  /** A directory whose record is to be written. The list of them is read many at a time: each look at it sorts it. */
  #nextDirectory(): Work | undefined {
    const { outbox } = this.#context.catalog
    for (const isFresh of [false, true]) {
      if (isFresh)
        this.#directoryWork = new Map(outbox.directories(DIRECTORY_ROWS).map((work) => [work.ino, work]))
      for (const work of this.#directoryWork.values()) {
        if (!this.#isReady(nameOf(work)) || this.#isHeld(work.ino)) continue
        if (outbox.find('directory', work.ino)) return work
        this.#directoryWork.delete(work.ino)
      }
    }
    return undefined
  }

  async #writeDirectory(work: Work): Promise<boolean> {
    const done = await this.#directories.write(work.ino)
    // Something else has to be written first, and it is not known when that will be.
    if (!done) this.#postponed.longer(nameOf(work), LATER_MS, LONGEST_PAUSE_MS)
    return done
  }

  /** A file to be copied because it was read. Those whose turn has not come yet stay, behind the others. */
  #nextWanted(): Task | undefined {
    for (let left = Math.min(this.#wanted.size, SCAN_ROWS); left > 0; left -= 1) {
      const [ino] = this.#wanted
      if (ino === undefined) break
      this.#wanted.delete(ino)
      const inode = this.#context.catalog.get(ino)
      if (!inode || isDirectory(inode.mode) || isHeld(this.#context, ino)) continue
      if (this.#isReady(`upload:${ino}`)) return this.#upload(ino)
      this.#wanted.add(ino)
    }
    return undefined
  }

  #upload(ino: bigint): Task {
    const name = `upload:${ino}`
    return {
      name,
      ino,
      run: async () => {
        const begun = performance.now()
        const result = await this.#uploader.upload(ino)
        if (result === 'stored' || result === 'gone') return true
        this.want(ino)
        // Of a large file that changes all the time each copy may read all of it.
        const share = Math.min((performance.now() - begun) * COPYING_SHARE, LONGEST_RETRY_MS)
        this.#postponed.longer(name, QUIET_MS / 4, Math.max(QUIET_MS, share))
        return false
      },
    }
  }

  /** What the store has of it may be newer than the catalog, which has lost transactions. */
  #isHeld(ino: bigint): boolean {
    if (!isHeld(this.#context, ino)) return false
    // Until somebody accepts the losses.
    this.#postponed.soonest = Math.min(this.#postponed.soonest, performance.now() + LONGEST_PAUSE_MS)
    return true
  }

  #isReady(name: string): boolean {
    return !this.#active.has(name) && this.#postponed.isReady(name)
  }

  /** Nobody is in the middle of writing the file, or has been for too long to wait on. */
  #isQuiet(work: Work): boolean {
    const node = this.#context.activity.peek(work.ino)
    if (!node || (node.writers <= 0 && node.changing === 0)) return true
    const now = performance.now()
    const name = nameOf(work)
    const since = this.#postponed.since(name) ?? now
    if ((node.changing === 0 && now - node.lastChange > QUIET_MS) || now - since > PATIENCE_MS) return true
    this.#postponed.wait(name, QUIET_MS / 4, since)
    return false
  }

  /**
   * Deletes what is listed as garbage now instead of in its turn, once that is flushed. False where a record in the store may still
   * lead to it, or where it is in use again: then the usual way goes on with it. @throws StoreError
   */
  async collectNow(garbage: Garbage): Promise<boolean> {
    const { outbox } = this.#context.catalog
    if (this.#fenced) throw this.#fenced
    if (!outbox.isListed(garbage.space, garbage.key)) return true
    if (this.#context.catalog.doubts.any || !outbox.mayGo(garbage)) return false
    try {
      await this.#garbage.collect(garbage)
    } catch (error) {
      this.noteFailure(error)
      throw error
    }
    return !outbox.isListed(garbage.space, garbage.key)
  }

  #failed(task: Task, error: unknown): void {
    const { catalog, log } = this.#context
    if (task.name.startsWith('upload:')) this.want(task.ino)
    if (this.noteFailure(error)) {
      // The store may answer, but not for this: at the head of the list again and again it would be in the way of all others.
      this.#postponed.longer(task.name, FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
      return
    }
    this.#postponed.longer(task.name, FIRST_RETRY_MS, LONGEST_RETRY_MS)
    const inode = catalog.get(task.ino)
    if (task.name.startsWith('upload:') && inode && !isStored(inode)) this.recordFailure(task.ino, error)
    log.warn({ err: error, task: task.name }, 'store work failed and will be tried again')
  }

  /** Lists a file as one that could not be stored. */
  recordFailure(ino: bigint, error: unknown): void {
    const { catalog, log } = this.#context
    try {
      if (error instanceof FsError && error.code === 'ENOENT') this.onVanished(ino)
      catalog.transaction(() => {
        const inode = catalog.get(ino)
        // Somebody has it open still, but it has no name left under which it could be stored.
        if (!inode || inode.orphan) return
        inode.failure = reasonOf(error)
        catalog.save(inode)
      })
    } catch (cause) {
      // No room, or a volume that does not answer. The work is still owed and will be tried again. A worker that dies of it could
      // not even be replaced: its successor finds the same, and every caller waits (P6).
      if (!(cause instanceof FsError)) throw cause
      log.error({ err: cause, ino: ino.toString() }, 'a failure cannot be recorded')
    }
  }

  #fence(error: Error): void {
    if (this.#fenced) return
    this.#fenced = new FsError(
      'EIO',
      'another daemon has taken over this namespace; this one writes nothing more',
      { cause: error },
    )
    // Tasks that have begun as well.
    this.#fenceStore(this.#fenced)
    this.#context.log.error(
      { err: error },
      'another daemon has taken over this namespace: the store is not written any more',
    )
    this.#release(this.#upWaiters)
  }

  /** Work that was postponed comes up again by itself. */
  #armTimer(): void {
    clearTimeout(this.#timer)
    this.#postponed.sweep()
    const { soonest } = this.#postponed
    if (soonest === Number.POSITIVE_INFINITY) return
    this.#timer = setTimeout(() => this.wake(), Math.max(10, soonest - performance.now()))
    this.#timer.unref()
  }

  #release(waiters: Set<() => void>): void {
    for (const waiter of [...waiters]) {
      waiters.delete(waiter)
      waiter()
    }
  }
}

const nameOf = (work: Work): string => `${work.kind}:${work.ino}`
