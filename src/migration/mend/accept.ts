import type { BoundedList } from '../../base/bounded-list.ts'
import { faultPoint } from '../../base/faults.ts'
import { giveWay } from '../../base/pace.ts'
import { type Catalog, type Inode, isLost, lacksNames } from '../../catalog/index.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { type FoundDifference, noDifferences, shownPath } from '../verify.ts'
import { removeGone } from './gone.ts'

const AT_ONCE = 100

/**
 * Everything that was compared with the store is to be taken as it is from now on; nobody waits any more for what is lost to come
 * back. A directory that may have had names that nobody knows has those that are known, and its record is written anew. A name of
 * which nothing is left, in the store or on the volume, goes. The doubts go last: cut short, they are listed as before, and what is
 * done of this is no harm to what is not.
 * @returns names that went
 */
export async function acceptLosses(context: OverlayContext): Promise<BoundedList<FoundDifference>> {
  const { catalog, carrier, log, policy } = context
  // Where changes go to the volume it has the truth.
  const isAll = policy().writeTo === 'legacy'
  const leftOut = noDifferences()
  await catalog.ready()
  for (let after: bigint | undefined; ; ) {
    const page = catalog.lists.failures(after, AT_ONCE)
    catalog.transaction(() => {
      for (const { ino, reason } of page) {
        const inode = catalog.get(ino)
        if (!inode || (!isAll && catalog.doubts.comparedOf(ino) === 'not')) continue
        if (lacksNames(inode)) acceptDirectory(catalog, inode)
        else if (isLost(inode) && !inode.orphan && isNowhere(catalog, inode)) {
          leftOut.add({
            path: shownPath(context, ino),
            kind: 'missing',
            detail: `${reason}; it is left out from now on`,
          })
          removeGone(context, ino)
        }
      }
    })
    faultPoint('migration.mend.accepting')
    after = page.at(-1)?.ino
    if (after === undefined) break
    await giveWay()
  }
  catalog.doubts.accept(isAll)
  if (leftOut.count > 0)
    log.warn(
      { files: leftOut.count },
      'names of which nothing is left were left out: the losses were accepted',
    )
  carrier.wake()
  return leftOut
}

/** Within a transaction. */
function acceptDirectory(catalog: Catalog, inode: Inode): void {
  inode.layout = 0
  inode.failure = undefined
  catalog.save(inode)
  if (inode.orphan) return
  catalog.records.begin(inode.ino)
  catalog.outbox.markAllShards(inode.ino)
  catalog.outbox.add('directory', inode.ino)
}

/** Neither staged here, nor under any of its names on the volume, where an older state of it may be. */
function isNowhere({ links }: Catalog, { ino, legacyIno, staged }: Inode): boolean {
  if (legacyIno !== undefined || staged !== 0) return false
  return links.places(ino).next().done === true && links.of(ino).every(({ legacy }) => legacy === undefined)
}
