import { isDirectory, isRegular } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { GUARDS } from '../base/inode-flags.ts'
import { giveWay } from '../base/pace.ts'
import { type Inode, lacksNames } from '../catalog/index.ts'
import { adoptGuardsPast, expectMovingCtime, guardsSeen, namesRemoved, takeOver } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import type { AttributeOperations } from './attributes.ts'
import type { OverlayContext } from './context.ts'
import type { Names } from './names.ts'

/**
 * The flags of ioctl_iflags(2): all that the volume has where changes go there, else the two that guard a file, which the catalog and the
 * store keep.
 */
export class FileFlags {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #attributes: AttributeOperations

  constructor(context: OverlayContext, names: Names, attributes: AttributeOperations) {
    this.#context = context
    this.#names = names
    this.#attributes = attributes
  }

  /** @throws FsError ENOTTY of what has none */
  get(ino: bigint): number {
    const inode = this.#flagged(ino)
    adoptGuardsPast(this.#context, inode)
    if (inode.authority === 'catalog') return inode.flags
    const flags = this.#context.legacyFiles.flags(ino)
    return this.#context.policy().writeTo === 'legacy' ? flags : flags & GUARDS
  }

  async set(request: RequestContext, ino: bigint, flags: number): Promise<void> {
    let inode = this.#flagged(ino)
    this.#requireMay(request, ino, flags)
    const takes = inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan
    if (takes) inode = takeOver(this.#context, ino)
    else adoptGuardsPast(this.#context, inode)
    if (inode.authority === 'catalog') {
      await this.#setOwn(inode, flags)
      return
    }
    const change = (): void => this.#context.legacyFiles.setFlags(ino, flags, request)
    if (inode.orphan) change()
    else this.#attributes.aroundLegacy(inode, change)
  }

  #flagged(ino: bigint): Inode {
    const inode = this.#names.inode(ino)
    if (!isRegular(inode.mode) && !isDirectory(inode.mode)) throw new FsError('ENOTTY')
    return inode
  }

  /** As kernels check it from 5.13 on: the owner; and whoever has CAP_LINUX_IMMUTABLE, here root, where the file is guarded. */
  #requireMay({ uid }: RequestContext, ino: bigint, flags: number): void {
    if (uid === 0) return
    const now = this.#attributes.get(ino)
    if (uid !== now.uid || ((flags ^ (now.flags ?? 0)) & GUARDS) !== 0) throw new FsError('EPERM')
  }

  async #setOwn(inode: Inode, flags: number): Promise<void> {
    if ((flags & ~GUARDS) !== 0) throw new FsError('EOPNOTSUPP', 'a flag that only a volume has')
    this.#attributes.alterOwn(inode, () => {
      inode.flags = flags
      // Why it stays on the volume, if it does, is asked anew.
      if (isDirectory(inode.mode) && !lacksNames(inode)) inode.failure = undefined
    })
    faultPoint('overlay.flags.committed')
    if (!this.#context.policy().removesLegacy || inode.legacyIno === undefined) return
    try {
      await this.#clearOnVolume(inode)
    } catch (error) {
      // It is as it was asked for; that the legacy copy is still guarded is told where that cannot be removed.
      if (!(error instanceof FsError)) throw error
      this.#context.log.warn({ err: error, ino: String(inode.ino) }, 'the flags of a legacy copy stay')
    }
  }

  /** So that what we take off a directory ourselves does not look like a change past the overlay. */
  #expectGuards(ino: bigint, flags: number): void {
    const { catalog, legacyFiles } = this.#context
    const left = legacyFiles.flags(ino) & flags
    catalog.transaction(() => {
      const inode = this.#names.inode(ino)
      inode.fingerprint = guardsSeen(left)
      catalog.save(inode)
    })
  }

  /**
   * What the legacy copy is guarded by and the file is not any more goes, so that it can be removed. That moves its ctime, which must
   * not look like a change past the overlay: flushed, as the volume's disk may be ahead of the catalog's after a power cut.
   */
  async #clearOnVolume({ ino, mode, flags }: Inode): Promise<void> {
    const { catalog, legacyFiles } = this.#context
    const isGone = (): boolean => (legacyFiles.flags(ino) & GUARDS & ~flags) === 0
    if (isGone()) return
    if (isDirectory(mode)) this.#expectGuards(ino, flags)
    else expectMovingCtime(this.#context, ino)
    await catalog.flush()
    // Somebody may have set it anew meanwhile.
    if ((catalog.get(ino)?.flags ?? 0) === flags && !isGone())
      legacyFiles.setFlags(ino, legacyFiles.flags(ino) & (~GUARDS | flags))
    if (isDirectory(mode)) return
    for (const _ of namesRemoved(this.#context, ino)) await giveWay()
  }
}
