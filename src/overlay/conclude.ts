import { FsError, reasonOf } from '../base/errors.ts'
import { requireLegacy } from '../content/index.ts'
import type { Answers } from './answers.ts'
import type { OverlayContext } from './context.ts'
import { decodeIntent, type LegacyIntent } from './intents.ts'
import type { LegacyNamespace } from './legacy-namespace.ts'

/** What follows an operation on the volume, and where its answer is recorded. */
export interface ConcludingParts {
  readonly legacyNamespace: LegacyNamespace
  readonly answers: Answers
}

/**
 * Finds out on the volume whether an operation that has no recorded answer took place, and completes it if so.
 * @throws FsError ENOSPC if the catalog has no room for it, EIO if the volume does not say: its outcome stays open
 */
export function conclude(
  context: OverlayContext,
  overlay: ConcludingParts,
  unique: bigint,
  operation: string,
): void {
  const { catalog, log } = context
  let intent: LegacyIntent | undefined
  try {
    intent = decodeIntent(operation)
    if (finish(context, overlay, unique, intent)) {
      log.info({ operation: intent.kind }, 'completed an operation that a crash had cut short')
      return
    }
  } catch (error) {
    if (!(error instanceof FsError) || (intent && staysOpen(context, error))) throw error
    log.warn(
      { err: error, operation: intent?.kind },
      `an operation cut short by a crash stays undone: ${reasonOf(error)}`,
    )
  }
  catalog.transaction(() => catalog.intents.drop(unique))
}

/** Room may come back, and so may a volume, unless nothing is expected of it any more. */
function staysOpen(context: OverlayContext, { code }: FsError): boolean {
  return code === 'ENOSPC' || (code === 'EIO' && context.legacy() !== undefined)
}

/** True if the operation's effect is there. */
function finish(
  context: OverlayContext,
  overlay: ConcludingParts,
  unique: bigint,
  intent: LegacyIntent,
): boolean {
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
      // What it was mounted on would have been removed, where the mount is missing.
      if (there && (there.ino === inode?.legacyIno || (inode && legacy.isMissing(inode, { parent, name }))))
        return false
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
