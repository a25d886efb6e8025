import { FsError, reasonOf } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import { giveWay } from '../../base/pace.ts'
import { type MendNotes, ROOT_INO } from '../../catalog/index.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { StoreError } from '../../store/errors.ts'
import { OtherFile } from '../rebuild/file-record.ts'
import { isOfNoUse, isUnanswered, StoreReader } from '../rebuild/store-reader.ts'
import { isGoneFromVolume, isInStoreAlone, lose, removeGone } from './gone.ts'
import { decodeLeaving, type MendRun, mendDirectory, mendLeaving, takeAside } from './mend-directory.ts'
import { mendFile } from './mend-file.ts'
import { Unfound } from './unfound.ts'

const AT_ONCE = 64

// Nobody is served meanwhile.
const LONGEST_MS = 60_000
// For one object, and less the more of them have had no answer.
const LONGEST_FOR_ONE_MS = 5000
// Where so many have none it is not one or another that is out of reach.
const MOST_UNANSWERED = 1000

interface Counts {
  compared: number
  taken: number
  lost: number
  unanswered: number
}

/**
 * After the catalog has lost transactions: compares what is in doubt with the store, by version, and takes what is newer there. Before
 * anybody is served. All of it stays in doubt: what was changed last may never have reached the store. Nothing is written to the
 * store, and nothing goes from it. Cut short, the next start goes on.
 * @param signal ends it; without one it ends after a minute
 */
export async function mend(
  context: OverlayContext,
  signal: AbortSignal = AbortSignal.timeout(LONGEST_MS),
): Promise<void> {
  const { catalog, log } = context
  if (catalog.doubts.toCompare(1).length === 0) return
  const counts: Counts = { compared: 0, taken: 0, lost: 0, unanswered: 0 }
  try {
    await compareAll(context, signal, counts)
    log.warn(
      counts,
      'what the catalog may have lost was compared with the store: what is newer there was taken',
    )
    if (counts.unanswered > 0)
      log.error(
        counts,
        "the store has no answer for some of it, which 'ferryfs verify' lists: the next start asks again",
      )
  } catch (error) {
    if (!signal.aborted && !(error instanceof StoreError || error instanceof FsError)) throw error
    log.error(
      { err: error, ...counts },
      'what the catalog may have lost could not all be compared with the store: the next start goes on',
    )
  }
}

async function compareAll(context: OverlayContext, signal: AbortSignal, counts: Counts): Promise<void> {
  const notes = context.catalog.doubts.beginNotes()
  try {
    await new Mending(context, { signal, counts, notes }).run()
  } finally {
    notes.end()
  }
}

/** Whether some losses can be accepted: what was not compared stays in doubt. */
export function mayAccept(context: OverlayContext): boolean {
  return isCompared(context) || context.catalog.doubts.anyCompared
}

/**
 * Whether nothing is left of which only the store can say what has become of it. Before that, to take the catalog as it is would be to
 * take for removed what has gone to the store, and to remove it there.
 */
export function isCompared({ catalog, policy }: OverlayContext): boolean {
  return policy().writeTo !== 'store' || catalog.doubts.toCompare(1).length === 0
}

/**
 * All records come before files, and what they name is noted: of what neither the volume nor the store has, that tells what was lost
 * from what was removed.
 */
class Mending {
  readonly #counts: Counts
  readonly #context: OverlayContext
  readonly #signal: AbortSignal
  readonly #run: MendRun
  readonly #unfound: Unfound
  /** Directories of which the store has no answer for something: what they name is not known. */
  readonly #open = new Set<bigint>()
  /** Directories that are done only with all others, and what else there may be any amount of. */
  readonly #notes: MendNotes

  constructor(
    context: OverlayContext,
    { signal, counts, notes }: { signal: AbortSignal; counts: Counts; notes: MendNotes },
  ) {
    this.#context = context
    this.#signal = signal
    this.#counts = counts
    this.#notes = notes
    this.#run = {
      context,
      reader: new StoreReader(context.store, () => this.#bound()),
      notes,
      refused: (directory, why) => this.#warnOfName(directory, why),
    }
    this.#unfound = new Unfound(this.#run)
  }

  /** @throws StoreError where the store cannot say now; FsError */
  async run(): Promise<void> {
    if (this.#context.policy().writeTo === 'legacy')
      await this.#each('directories', (ino) => this.#record(ino))
    else await this.#records()
    await this.#each('files', (ino) => this.#file(ino))
    // What is named nowhere else, and what nothing is left of, is decided once all records have said what they name.
    if (this.#open.size > 0) return
    this.#takeAside()
    await this.#unfound.settle()
    // Cut short before this they are looked at again.
    for (const state of ['read', 'unfound'] as const) {
      for (let after: bigint | undefined; ; ) {
        const some = this.#notes.some(state, after)
        for (const { ino, isTaken } of some) this.#compared(ino, isTaken)
        after = some.at(-1)?.ino
        if (after === undefined) break
        await giveWay()
      }
    }
  }

  /**
   * From the root down: a directory that nothing leads to was removed, and its record says nothing of what is in others. Those that are
   * in the catalog below one whose record is lost may have been in that.
   */
  async #records(): Promise<void> {
    const { catalog } = this.#context
    await this.#each('directories', (ino) => this.#nameIf(ino, this.#isLedTo(ino)))
    do {
      // What comes by a record may have a lower number.
      let isMore: boolean
      do isMore = await this.#each('named directories', (ino) => this.#record(ino))
      while (isMore)
      this.#unfound.loseNamed((ino) => this.#compared(ino, false))
    } while (
      (this.#open.size === 0 && (await this.#allLeaving())) ||
      (await this.#each('directories', (ino) => this.#nameIf(ino, this.#unfound.isNamed(ino))))
    )
    if (this.#open.size > 0) return
    await this.#each('directories', async (ino) => {
      const inode = catalog.get(ino)
      if (!inode || this.#notes.has(ino)) return false
      if (!isGoneFromVolume(this.#context, inode)) return await this.#record(ino, false)
      this.#putOff(ino)
      return false
    })
  }

  /** By what is not in doubt. What a start that was cut short has found to be named is known to be. */
  #isLedTo(ino: bigint): boolean {
    const { doubts, links } = this.#context.catalog
    return ino === ROOT_INO || links.of(ino).some(({ parent }) => doubts.comparedOf(parent) === undefined)
  }

  #nameIf(ino: bigint, isNamed: boolean): Promise<boolean> {
    const { catalog } = this.#context
    if (!isNamed || this.#notes.has(ino) || catalog.doubts.isNamed(ino)) return Promise.resolve(false)
    catalog.transaction(() => catalog.doubts.noteNamed(ino))
    return Promise.resolve(true)
  }

  #putOff(ino: bigint, why?: string): void {
    this.#unfound.add(ino, why)
  }

  async #record(ino: bigint, isLed = true): Promise<boolean> {
    if (this.#notes.has(ino) || this.#open.has(ino)) return false
    try {
      const { came, taken, isLeft } = await mendDirectory(this.#run, ino, isLed)
      const isTaken = taken || came > 0
      if (isLeft) this.#context.catalog.transaction(() => this.#notes.note(ino, 'read', isTaken))
      else this.#compared(ino, isTaken)
    } catch (error) {
      if (isUnanswered(error)) {
        await this.#leaveOpen(ino, error)
        this.#open.add(ino)
        return true
      }
      if (!isOfNoUse(error)) throw error
      this.#warnOf(ino, error)
      // Where changes go to the volume, that has all names.
      if (this.#context.policy().writeTo === 'legacy') this.#compared(ino, false)
      else this.#putOff(ino, error.message)
    }
    return true
  }

  /** What is only in records that it was about to leave, once the others were read. True if there was any. */
  async #allLeaving(): Promise<boolean> {
    let isAny = false
    for (let some = this.#notes.leaving(); some.length > 0; some = this.#notes.leaving()) {
      for (const { n, parent, name, entry } of some) {
        this.#signal.throwIfAborted()
        const settled = await mendLeaving(this.#run, parent, decodeLeaving(name, entry)).catch(
          async (error: unknown) => {
            if (!isUnanswered(error)) throw error
            await this.#leaveOpen(parent, error)
            this.#open.add(parent)
          },
        )
        this.#context.catalog.transaction(() => this.#notes.dropLeaving(n))
        if (!settled) continue
        const { isOnly, why } = settled
        isAny ||= isOnly
        if (why !== undefined && why !== 'came') this.#warnOfName(parent, why)
      }
    }
    return isAny
  }

  /** What was in the place of something newer, and is named nowhere else, was replaced. Unless what named it may be lost. */
  #takeAside(): void {
    const { catalog } = this.#context
    if (catalog.doubts.anyLost) return
    for (let after = 0n; ; ) {
      const some = this.#notes.aside(after)
      catalog.transaction(() => {
        for (const one of some) takeAside(this.#run, one)
      })
      const last = some.at(-1)
      if (!last) return
      after = last.n
    }
  }

  /** Whether there was any of which `look` says so. */
  async #each(
    kind: 'directories' | 'named directories' | 'files',
    look: (ino: bigint) => Promise<boolean>,
  ): Promise<boolean> {
    let isAny = false
    for (let after: bigint | undefined; ; ) {
      const some = this.#context.catalog.doubts.toCompare(AT_ONCE, after, kind)
      for (const ino of some) {
        this.#signal.throwIfAborted()
        if (await look(ino)) isAny = true
      }
      after = some.at(-1)
      if (after === undefined) return isAny
    }
  }

  async #file(ino: bigint): Promise<boolean> {
    try {
      this.#compared(ino, await mendFile(this.#context, this.#run.reader, ino))
    } catch (error) {
      if (isUnanswered(error)) {
        await this.#leaveOpen(ino, error)
        return true
      }
      if (!isOfNoUse(error)) throw error
      this.#warnOf(ino, error)
      const inode = this.#context.catalog.get(ino)
      if (inode && isInStoreAlone(this.#context, inode)) {
        // Removed or lost: what names it may have no answer.
        if (this.#open.size > 0) return true
        this.#settleGone(ino, error)
      }
      this.#compared(ino, false)
    }
    return true
  }

  #bound(): AbortSignal {
    const longest = Math.ceil(LONGEST_FOR_ONE_MS / (1 + this.#counts.unanswered))
    return AbortSignal.any([this.#signal, AbortSignal.timeout(Math.max(100, longest))])
  }

  /** The store answers, and not for this, which is left for the next start. @throws StoreError where it does not answer at all */
  async #leaveOpen(ino: bigint, error: StoreError): Promise<void> {
    this.#signal.throwIfAborted()
    if (this.#counts.unanswered >= MOST_UNANSWERED) throw error
    await this.#context.store.ping({ signal: this.#bound() })
    this.#counts.unanswered += 1
    this.#warnOf(ino, error)
  }

  /** The store has nothing of use of a file: where the volume has nothing either it was removed, or is lost. */
  #settleGone(ino: bigint, why: Error): void {
    if (!this.#unfound.isNamed(ino)) removeGone(this.#context, ino)
    else {
      lose(this.#context, ino, why.message, why instanceof OtherFile)
      this.#counts.lost += 1
    }
  }

  #warnOfName(directory: bigint, why: string): void {
    this.#context.log.warn(
      { ino: directory.toString(), why },
      'a name that only the store has could not be put where it was',
    )
  }

  #warnOf(ino: bigint, error: StoreError): void {
    this.#context.log.warn(
      { ino: ino.toString(), why: reasonOf(error) },
      'what the store has of a file in doubt cannot be used',
    )
  }

  #compared(ino: bigint, isTaken: boolean): void {
    const { catalog } = this.#context
    catalog.transaction(() => catalog.doubts.note(ino, isTaken ? 'taken' : 'nothing newer'))
    faultPoint('migration.mend.compared')
    this.#counts.compared += 1
    if (isTaken) this.#counts.taken += 1
  }
}
