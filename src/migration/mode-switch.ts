import { isDirectory } from '../base/attributes.ts'
import { FsError, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { type Mode, type Policy, policyOf } from '../base/modes.ts'
import { giveWay } from '../base/pace.ts'
import { type Catalog, type Inode, isStored } from '../catalog/index.ts'
import { keptByFlags, takeOver } from '../content/index.ts'
import type { Overlay, OverlayContext } from '../overlay/index.ts'
import { isChangedOnBothSides } from './both-sides.ts'
import { walk } from './walker.ts'

const BATCH = 100
/** Meta of the catalog: SOURCE was served with --source-readonly, and has not been found complete since. */
const UNTOUCHED = 'source-untouched'

/**
 * On the way out: changes go to the store, nothing is removed, and the volume serves what the catalog has not taken over
 * or the store does not have.
 */
const LEAVING: Policy = { ...policyOf('drain', true), needsLegacy: true }

/** Why a mode cannot be had now. */
export class ModeRefused extends Error {
  /** What stands in the way goes by itself, as files get into the store. */
  readonly passes: boolean

  constructor(message: string, { passes }: { readonly passes: boolean }) {
    super(message)
    this.passes = passes
  }
}

/** How a mode is asked for. `patient`: what is on its way to the store is waited for, within the limit of one operation. */
export interface Wish {
  readonly patient: boolean
}

/**
 * The mode in force. It changes under running applications; what it means for a file is asked at each operation.
 *
 * Crash points of a change: one transaction decides it. Before it the old mode is in force and nothing is different; after
 * it the new one is. What a mode without the volume asks for besides, that the catalog has the authority on every file, is
 * done behind the decision: by whoever serves then, however often one dies on the way.
 */
export class ModeSwitch {
  readonly #catalog: Catalog
  readonly #sourceReadonly: boolean
  #mode: Mode
  /** While the volume is being left. */
  #leaving: boolean
  #switching: Promise<void> = Promise.resolve()

  constructor(catalog: Catalog, mode: Mode, sourceReadonly: boolean) {
    this.#catalog = catalog
    this.#mode = mode
    this.#sourceReadonly = sourceReadonly
    this.#leaving = !policyOf(mode, sourceReadonly).needsLegacy && catalog.lists.onVolumeCount() > 0
  }

  get mode(): Mode {
    return this.#mode
  }

  get policy(): Policy {
    return this.#leaving ? LEAVING : policyOf(this.#mode, this.#sourceReadonly)
  }

  /** The mode does without the volume, and there are files that still need it: to be asked for again. */
  get leaving(): boolean {
    return this.#leaving
  }

  /** One change after the other. @throws ModeRefused */
  change(
    mode: Mode,
    context: OverlayContext,
    overlay: Overlay,
    detach: (detached: boolean) => void,
    wish: Wish,
  ): Promise<void> {
    const result = this.#switching.then(() => this.#change(mode, context, overlay, detach, wish))
    this.#switching = result.catch(() => undefined)
    return result
  }

  async #change(
    mode: Mode,
    context: OverlayContext,
    overlay: Overlay,
    detach: (detached: boolean) => void,
    wish: Wish,
  ): Promise<void> {
    const wanted = policyOf(mode, this.#sourceReadonly)
    if (mode !== this.#mode) {
      if (wanted.writeTo === 'legacy') this.#requireComplete(mode)
      if (wanted.needsLegacy && !this.policy.needsLegacy) detach(false)
      if (!wanted.needsLegacy) await this.#requireStored(context, overlay, wish)
      // In the tick of the last look at what it asks for.
      this.#decide(mode, !wanted.needsLegacy)
      if (!wanted.removesLegacy) await this.#forgetWhatStays(mode)
      await this.#catalog.flush()
      context.carrier.wake()
    }
    if (this.#leaving) await this.#leave(context, detach)
  }

  /**
   * Before a mount serves: what was changed with SOURCE untouched is not on it, so without that no mode that writes there can go on (P5).
   * @param mode that the mount is to have
   * @throws UsageError
   */
  admitMount(mode: Mode): void {
    const catalog = this.#catalog
    const note = (untouched: string): void => {
      if ((catalog.meta.get(UNTOUCHED) ?? '') !== untouched)
        catalog.transaction(() => catalog.meta.set(UNTOUCHED, untouched))
    }
    if (this.#sourceReadonly) {
      note('yes')
      return
    }
    // In another mode it stays noted: a mount that dies before that is in force leaves the mode of before.
    if (policyOf(mode, false).writeTo !== 'legacy') return
    const count = catalog.lists.divergedCount()
    if (catalog.meta.get(UNTOUCHED) === 'yes' && count > 0)
      throw new UsageError(
        `SOURCE was served with --source-readonly, and ${count} files or names are not on it as the overlay shows them: mode ${mode} would lack them; mount it with --source-readonly, or with --mode drain`,
      )
    note('')
  }

  #decide(mode: Mode, leaving: boolean): void {
    this.#catalog.transaction(() => this.#catalog.meta.set('mode', mode))
    faultPoint('migration.mode.set')
    this.#mode = mode
    this.#leaving = leaving
  }

  /**
   * Of a file that is in the store a failure says why its legacy copy could not go; that it stays is what is wanted now. Some in each
   * turn: a crash leaves lines in `status` that go with the next change of such a file.
   */
  async #forgetWhatStays(mode: Mode): Promise<void> {
    for (let after: bigint | undefined; ; ) {
      if (this.#mode !== mode) return
      const page = this.#catalog.lists.failures(after, BATCH)
      this.#catalog.transaction(() => {
        for (const { ino } of page) {
          const inode = this.#catalog.get(ino)
          if (!inode || !isStored(inode)) continue
          inode.failure = undefined
          this.#catalog.save(inode)
        }
      })
      after = page.at(-1)?.ino
      if (after === undefined) return
      await giveWay()
    }
  }

  /** P5: in a mode that writes to the legacy volume, the volume has all there is. */
  #requireComplete(mode: Mode): void {
    const count = this.#catalog.lists.divergedCount()
    if (count === 0) return
    throw new ModeRefused(
      `mode ${mode} is refused: ${count} files or names are no longer on the legacy volume as the overlay shows them; 'ferryfs restore' writes the whole tree out`,
      { passes: false },
    )
  }

  async #requireStored(context: OverlayContext, overlay: Overlay, { patient }: Wish): Promise<void> {
    let unreadable = 0
    for await (const _ of walk(context, overlay, () => {
      unreadable += 1
    })) {
      // The walk itself is the purpose: every legacy file is in the catalog afterwards.
    }
    await this.#requireNoneKept(context)
    const unstored = (): number => this.#catalog.lists.unstoredCount() + unreadable
    const settles = patient || unstored() === 0
    const settled = settles && (await context.carrier.idle(context.settings.opTimeoutMs))
    // In the tick in which nothing was owed: beside applications that write it may be the only one for long.
    const count = unstored()
    if (settled && count === 0) return
    const what = count === 0 ? 'directory records are' : count === 1 ? '1 file is' : `${count} files are`
    throw new ModeRefused(
      `mode store-only is refused: ${what} not in the store yet; run 'ferryfs migrate --wait', see 'ferryfs status' for files that failed`,
      { passes: true },
    )
  }

  /**
   * A file that a flag keeps on the volume, or that has another version there, is a failure: somebody has to decide about it while the
   * volume is there.
   */
  async #requireNoneKept(context: OverlayContext): Promise<void> {
    let kept = 0
    let onBoth = 0
    for (let after: bigint | undefined; ; ) {
      const page = this.#catalog.lists.failures(after, BATCH)
      for (const { ino } of page) {
        const inode = this.#catalog.get(ino)
        if (inode && isChangedOnBothSides(context, inode)) onBoth += 1
        else if (inode && (isStored(inode) || isDirectory(inode.mode)) && (await isKept(context, inode)))
          kept += 1
      }
      after = page.at(-1)?.ino
      if (after === undefined) break
      await giveWay()
    }
    if (onBoth > 0)
      throw new ModeRefused(
        `mode store-only is refused: ${onBoth} ${onBoth === 1 ? 'file has' : 'files have'} another version on SOURCE, changed there past the overlay; see 'ferryfs status' for which`,
        { passes: false },
      )
    if (kept === 0) return
    throw new ModeRefused(
      `mode store-only is refused: ${kept} ${kept === 1 ? 'file is' : 'files are'} kept on the volume by the immutable or append-only flag; see 'ferryfs status' for which, and 'chattr -i -a' on them in the mount`,
      { passes: false },
    )
  }

  /** Makes the catalog the authority on everything, then lets go of the volume. */
  async #leave(context: OverlayContext, detach: (detached: boolean) => void): Promise<void> {
    await this.#takeOverAll(context)
    // A file that was changed past the overlay goes to the store once more.
    if (this.#catalog.lists.onVolumeCount() > 0) await context.carrier.idle(context.settings.opTimeoutMs)
    const count = this.#catalog.lists.onVolumeCount()
    if (count > 0) {
      throw new ModeRefused(
        `mode ${this.#mode} is in force, but ${count} ${count === 1 ? 'file is' : 'files are'} still read from the legacy volume: do not detach it yet; ferryfs goes on by itself, ask for the mode again to see how far it is`,
        { passes: true },
      )
    }
    this.#leaving = false
    detach(true)
  }

  async #takeOverAll(context: OverlayContext): Promise<void> {
    for (let after: bigint | undefined; ; ) {
      const batch = this.#catalog.lists.legacyAuthority(after, BATCH)
      for (const ino of batch) {
        after = ino
        await context.activity.landed(ino)
        const inode = this.#catalog.get(ino)
        // A file without a name has no record to make; it lives until it is closed.
        if (inode && !inode.orphan && inode.nlink > 0) this.#takeOver(context, ino)
      }
      faultPoint('migration.mode.leaving')
      if (batch.length < BATCH) return
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  #takeOver(context: OverlayContext, ino: bigint): void {
    try {
      takeOver(context, ino)
    } catch (error) {
      if (!(error instanceof FsError && error.code === 'ENOENT')) throw error
      // Removed past the overlay: its name goes.
      context.carrier.onVanished(ino)
    }
  }
}

/** What a volume that does not answer would say is met by whoever needs it. */
async function isKept(context: OverlayContext, inode: Inode): Promise<boolean> {
  try {
    return (await keptByFlags(context, inode)) !== undefined
  } catch (error) {
    if (error instanceof FsError) return false
    throw error
  }
}
