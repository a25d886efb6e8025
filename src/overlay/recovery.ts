import { currentBoot } from '../base/boot.ts'
import { faultPoint } from '../base/faults.ts'
import { keepVanished, oweWhatWasKept, ROOT_INO } from '../catalog/index.ts'
import { adoptAttributes, afterPowerLoss, requireLegacy } from '../content/index.ts'
import { pagesOf } from '../base/pages.ts'
import type { OverlayContext } from './context.ts'
import { newInode } from './new-inode.ts'
import type { Overlay } from './overlay.ts'

// Files without a name removed in one transaction.
const ORPHANS_AT_ONCE = 64

/**
 * Brings catalog, staging files and legacy volume in line before the first request is served. With `fresh` nobody can
 * have a file open (a new mount): files without a name go, and so do recorded answers. Nobody waits for a turn of the event loop yet,
 * but what it takes in memory does not follow the number of rows (P6).
 */
export async function recover(context: OverlayContext, overlay: Overlay, fresh: boolean): Promise<void> {
  const { catalog, staging, writer } = context
  ensureRoot(context)
  if (catalog.meta.get('staging-lengths') === 'unknown') {
    // Of an earlier format, which did not make a staging file as long as what it stands for.
    for (const ino of catalog.lists.staged()) {
      const inode = catalog.get(ino)
      if (inode && staging.isThere(inode)) writer.extend(ino)
    }
    catalog.transaction(() => catalog.meta.set('staging-lengths', 'known'))
  }
  const boot = currentBoot()
  if (catalog.meta.get('boot-id') !== boot) {
    const lostPower = catalog.meta.get('boot-id') !== undefined
    if (lostPower) afterPowerLoss(context, staging)
    catalog.transaction(() => {
      if (lostPower) keepVanished(catalog)
      catalog.staged.trustAll()
      catalog.meta.set('boot-id', boot)
    })
  }
  // What recovery removes and cuts is what this state does not refer to: a power loss now must not bring an earlier one back.
  catalog.flushNow()
  const { unkept } = catalog.doubts
  if (unkept !== undefined) {
    staging.keepAll(catalog, unkept)
    catalog.doubts.kept()
  }
  for (const ino of catalog.lists.staged()) writer.recover(ino)
  // Nor what that gave up.
  catalog.flushNow()
  staging.recover(catalog)
  for (const ino of catalog.staged.doubtful()) {
    const inode = catalog.get(ino)
    if (inode && staging.isThere(inode)) staging.doubt(inode)
  }
  overlay.unfinished.recover(fresh, () => faultPoint('overlay.recovery.concluded'))
  const open = overlay.unfinished.inodes
  context.legacyFiles.releaseUnless((ino) => open.has(ino) || catalog.get(ino)?.orphan === true)
  if (catalog.unproven.last() !== undefined) context.proof.arm()
  // A crash came while they were asked for.
  for (const _ of oweWhatWasKept(catalog));
  if (!fresh) {
    overlay.names.removal.resume()
    return
  }
  catalog.transaction(() => {
    catalog.intents.clear()
    catalog.records.dropUnreachable()
  })
  for (const page of pagesOf(catalog.lists.orphans(), ORPHANS_AT_ONCE)) {
    catalog.transaction(() => {
      for (const ino of page) overlay.names.removal.purge(ino)
    })
    // What hangs on them, before more is added to it.
    await overlay.names.settled()
  }
}

/**
 * What of this a state needs that is only read, by a copy of its catalog: after a power loss, staged bytes that may not be there are not
 * taken for what they were. Nothing on the disk is brought in line.
 */
export function recoverToRead(context: OverlayContext): void {
  const { catalog, staging } = context
  const boot = catalog.meta.get('boot-id')
  if (boot !== undefined && boot !== currentBoot()) afterPowerLoss(context, staging)
}

function ensureRoot(context: OverlayContext): void {
  const { catalog } = context
  if (catalog.get(ROOT_INO)) return
  const stat = requireLegacy(context).rootNow()
  catalog.transaction(() => {
    const root = newInode(ROOT_INO, 0)
    adoptAttributes(root, stat)
    root.legacyIno = stat.ino
    root.btimeNs = stat.btimeNs
    catalog.save(root)
  })
}
