import { readFileSync } from 'node:fs'
import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { ROOT_INO } from '../catalog/index.ts'
import { adoptAttributes, requireLegacy } from '../content/index.ts'
import type { OverlayContext } from './context.ts'
import { decodeIntent, type LegacyIntent } from './intents.ts'
import { newInode } from './names.ts'
import type { Overlay } from './overlay.ts'

/**
 * Brings catalog, staging files and legacy volume in line before the first request is served. With `fresh` nobody can
 * have a file open (a new mount): files without a name go, and so do recorded answers.
 */
export function recover(context: OverlayContext, overlay: Overlay, fresh: boolean): void {
  const { catalog, staging, writer } = context
  ensureRoot(context)
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  if (catalog.meta('boot-id') !== boot) {
    catalog.transaction(() => {
      catalog.dropUnsyncedChunks()
      catalog.setMeta('boot-id', boot)
    })
  }
  for (const ino of catalog.stagedInodes()) writer.recover(ino)
  staging.recover(catalog)
  for (const { id, operation, answer } of catalog.intents()) {
    if (answer !== undefined) continue
    conclude(context, overlay, id, operation)
    faultPoint('overlay.recovery.concluded')
  }
  context.legacyFiles.releaseUnless((ino) => catalog.get(ino)?.orphan === true)
  if (!fresh) return
  catalog.transaction(() => catalog.clearIntents())
  for (const ino of catalog.orphans()) overlay.names.purge(ino)
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

/** Finds out on the volume whether the operation took place, and completes it if so. */
function conclude(context: OverlayContext, overlay: Overlay, unique: bigint, operation: string): void {
  const { catalog, log } = context
  let intent: LegacyIntent | undefined
  try {
    intent = decodeIntent(operation)
    if (finish(context, overlay, unique, intent)) {
      log.info({ operation: intent.kind }, 'completed an operation that a crash had cut short')
      return
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error
    log.warn(
      { err: error, operation: intent?.kind },
      `an operation cut short by a crash stays undone: ${reasonOf(error)}`,
    )
  }
  catalog.transaction(() => catalog.dropIntent(unique))
}

/** True if the operation's effect is there. */
function finish(context: OverlayContext, overlay: Overlay, unique: bigint, intent: LegacyIntent): boolean {
  const { catalog } = context
  const legacy = requireLegacy(context)
  const names = overlay.legacyNamespace
  const { parent, name } = intent
  switch (intent.kind) {
    case 'create': {
      if (!legacy.find({ parent, name })) return false
      catalog.transaction(() => names.finishCreate({ unique }, parent, name, intent))
      return true
    }
    case 'unlink': {
      const inode = catalog.get(intent.ino)
      const there = legacy.find({ parent, name })
      if (there && there.ino === inode?.legacyIno) return false
      if (inode) names.finishUnlink({ unique }, parent, name, inode, intent.last)
      else catalog.transaction(() => overlay.answers.record({ unique }))
      return true
    }
    case 'rename': {
      const inode = catalog.get(intent.ino)
      const there = legacy.find({ parent: intent.newParent, name: intent.newName })
      if (!inode || there?.ino !== inode.legacyIno) return false
      names.finishRename({ unique }, intent)
      return true
    }
    case 'link': {
      const there = legacy.find({ parent, name })
      if (!there || there.ino !== catalog.get(intent.ino)?.legacyIno) return false
      names.finishLink({ unique }, parent, name, intent.ino, intent.current)
      return true
    }
  }
}
