import { faultPoint } from '../base/faults.ts'
import { type Mode, type Policy, policyOf } from '../base/modes.ts'
import type { Catalog } from '../catalog/index.ts'
import { takeOver } from '../content/index.ts'
import type { Overlay, OverlayContext } from '../overlay/index.ts'
import { walk } from './walker.ts'

const BATCH = 100

/** Why a mode cannot be had now; nothing was changed. */
export class ModeRefused extends Error {}

/** The mode in force. It changes under running applications; what it means for a file is asked at each operation. */
export class ModeSwitch {
  readonly #catalog: Catalog
  readonly #sourceReadonly: boolean
  #mode: Mode
  /** In force while the way to `store-only` is made: changes go to the store already, nothing is removed. */
  #between: Policy | undefined
  #switching: Promise<void> = Promise.resolve()

  constructor(catalog: Catalog, mode: Mode, sourceReadonly: boolean) {
    this.#catalog = catalog
    this.#mode = mode
    this.#sourceReadonly = sourceReadonly
  }

  get mode(): Mode {
    return this.#mode
  }

  get policy(): Policy {
    return this.#between ?? policyOf(this.#mode, this.#sourceReadonly)
  }

  /** One change after the other. @throws ModeRefused */
  change(
    mode: Mode,
    context: OverlayContext,
    overlay: Overlay,
    detach: (detached: boolean) => void,
  ): Promise<void> {
    const result = this.#switching.then(() => this.#change(mode, context, overlay, detach))
    this.#switching = result.catch(() => undefined)
    return result
  }

  async #change(
    mode: Mode,
    context: OverlayContext,
    overlay: Overlay,
    detach: (detached: boolean) => void,
  ): Promise<void> {
    if (mode === this.#mode) return
    const wanted = policyOf(mode, this.#sourceReadonly)
    if (wanted.writeTo === 'legacy') this.#requireComplete(mode)
    if (wanted.needsLegacy && !this.policy.needsLegacy) detach(false)
    if (!wanted.needsLegacy) {
      await this.#leaveLegacy(context, overlay)
      detach(true)
    }
    this.#set(mode)
    faultPoint('migration.mode.set')
    await this.#catalog.flush()
    context.carrier.wake()
  }

  #set(mode: Mode): void {
    this.#catalog.transaction(() => this.#catalog.setMeta('mode', mode))
    this.#mode = mode
    this.#between = undefined
  }

  /** P5: in a mode that writes to the legacy volume, the volume has all there is. */
  #requireComplete(mode: Mode): void {
    const count = this.#catalog.divergedCount()
    if (count === 0) return
    throw new ModeRefused(
      `mode ${mode} is refused: ${count} files or names are no longer on the legacy volume as the overlay shows them; 'ferryfs restore' writes the whole tree out`,
    )
  }

  /** Everything in the store, and the catalog the authority on all of it. */
  async #leaveLegacy(context: OverlayContext, overlay: Overlay): Promise<void> {
    await this.#requireStored(context, overlay)
    this.#between = { ...policyOf('drain', true), needsLegacy: true }
    try {
      await this.#takeOverAll(context)
      const settled = await context.carrier.idle(context.settings.opTimeoutMs)
      const count = this.#catalog.unstoredCount()
      if (count > 0 || !settled) {
        throw new ModeRefused(
          `mode store-only is refused: ${Math.max(count, 1)} files or directory records are not in the store yet; run 'ferryfs migrate --wait' and try again`,
        )
      }
    } catch (error) {
      this.#between = undefined
      throw error
    }
  }

  async #requireStored(context: OverlayContext, overlay: Overlay): Promise<void> {
    let unreadable = 0
    for await (const _ of walk(context, overlay, () => {
      unreadable += 1
    })) {
      // The walk itself is the purpose: every legacy file is in the catalog afterwards.
    }
    const count = this.#catalog.unstoredCount() + unreadable
    if (count === 0) return
    throw new ModeRefused(
      `mode store-only is refused: ${count} ${count === 1 ? 'file is' : 'files are'} not in the store yet; run 'ferryfs migrate --wait', see 'ferryfs status' for files that failed`,
    )
  }

  async #takeOverAll(context: OverlayContext): Promise<void> {
    for (let after: bigint | undefined; ; ) {
      const batch = this.#catalog.legacyAuthority(after, BATCH)
      for (const ino of batch) {
        after = ino
        await context.activity.landed(ino)
        const inode = this.#catalog.get(ino)
        // A file without a name has no record to make; it lives until it is closed.
        if (inode && !inode.orphan && inode.nlink > 0) takeOver(context, ino)
      }
      faultPoint('migration.mode.leaving')
      if (batch.length < BATCH) return
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}
