import { type Dir, opendirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import type { Catalog } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { type MergedSource, SourceMerge } from '../migration/index.ts'
import type { Log } from '../observe/log.ts'
import { completeSource, isMarked } from './owner-check.ts'
import type { Ownership } from './ownership.ts'
import type { Volume } from './volume.ts'

/**
 * Meta: `yes` where the catalog was made from the store alone, and has not been brought together with SOURCE; `merging` while that is
 * under way; else empty or absent.
 */
export const UNSEEN = 'source-unseen'

const EXAMPLES = 5

interface Unseen {
  readonly config: MountConfig
  readonly catalog: Catalog
  readonly ownership: Ownership
  readonly volume: Volume
  readonly log: Log
}

/**
 * Before a mode is in force: what SOURCE alone has comes into a tree that `rebuild` has made from the store. A SOURCE that says that it
 * is not complete was being drained when the state directory was lost, and goes on to be, if it has anything that the store has not.
 * One that does not say so may be newer than the store: nothing is put over it unless that is asked for. An empty one may be the place of
 * a disk that is to be mounted: it is looked at again by the next mount.
 * @throws UsageError in one line
 */
export async function seeSource(unseen: Unseen, takesOver: boolean): Promise<void> {
  const { config, catalog, ownership, volume } = unseen
  const state = unseenState(catalog)
  if (state === undefined || (takesOver && state !== 'merging')) return
  if (state !== 'merging' && !knowsSource(config, ownership)) {
    if (isEmpty(config.source)) return
    if (!config.takeOver) throw new UsageError(completeSource(config))
  }
  volume.attach()
  const { tree } = volume
  if (!tree) return
  catalog.transaction(() => catalog.meta.set(UNSEEN, 'merging'))
  const merged = await new SourceMerge(catalog, tree).run()
  const { added, doubts } = merged
  faultPoint('daemon.source.merged')
  catalog.transaction(() => {
    if (added.count > 0 && catalog.meta.get('mode') === 'store-only') catalog.meta.set('mode', 'drain')
    if (doubts.count > 0)
      catalog.noteLoss(
        doubtLine(
          config,
          doubts.count,
          doubts.items.map(({ path }) => path),
        ),
      )
    catalog.meta.set(UNSEEN, '')
  })
  // Not before what it has led to is noted: cut short, it is needed again.
  while (catalog.transaction(() => catalog.links.unmet.clear())) await giveWay()
  report(unseen, merged)
  if (catalog.meta.get('mode') === 'store-only') volume.detach()
}

/**
 * In a mode that needs SOURCE it is not taken up beside a tree that has not been brought together with it.
 * @throws UsageError
 */
export function requireSeen({ source }: MountConfig, catalog: Catalog): void {
  if (unseenState(catalog) === undefined || isEmpty(source)) return
  throw new UsageError(
    `SOURCE ${source} was empty, or not there, when it was mounted, and the tree was made from the store without it: unmount, and mount it again`,
  )
}

function unseenState(catalog: Catalog): 'yes' | 'merging' | undefined {
  const state = catalog.meta.get(UNSEEN)
  if (state === 'yes' || state === 'merging') return state
  // An earlier ferryfs has made it.
  const isOfEarlier = state === undefined && catalog.meta.get('mode') === 'store-only'
  return isOfEarlier && catalog.meta.get('source') === undefined ? 'yes' : undefined
}

function knowsSource({ source, takesFrom }: MountConfig, { id, replaces }: Ownership): boolean {
  return takesFrom !== undefined || isMarked(source, new Set([id, ...replaces]), process.env)
}

/** @throws UsageError where nobody can tell */
function isEmpty(source: string): boolean {
  let directory: Dir
  try {
    directory = opendirSync(source)
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return true
    throw new UsageError(`SOURCE ${source} cannot be read: ${reasonOf(error)}`, 1, { cause: error })
  }
  try {
    for (let entry = directory.readSync(); entry; entry = directory.readSync())
      if (entry.name !== 'lost+found' || readdirSync(join(source, entry.name)).length > 0) return false
    return true
  } catch (error) {
    throw new UsageError(`SOURCE ${source} cannot be read: ${reasonOf(error)}`, 1, { cause: error })
  } finally {
    directory.closeSync()
  }
}

function doubtLine({ source }: MountConfig, count: number, paths: readonly string[]): string {
  const shown = paths.slice(0, EXAMPLES).join(', ')
  const more = count > EXAMPLES ? ', …' : ''
  return `the tree was made from the store, and ${count} of its names may be older than what SOURCE ${source} has there, or such as files had lost; what SOURCE has is kept (the log says why of each): ${shown}${more}`
}

function report({ log }: Unseen, { added, former, doubts }: MergedSource): void {
  for (const { path, reason } of doubts.items)
    log.error({ path, reason }, 'SOURCE may have what the tree lacks')
  if (former.count > 0)
    log.warn(
      { names: former.count, examples: former.items.slice(0, EXAMPLES) },
      'SOURCE has files under names that they have left since, as the store says: they are hidden there, and stay',
    )
  if (added.count === 0) return
  log.warn(
    { names: added.count, examples: added.items.slice(0, EXAMPLES) },
    'names that SOURCE alone has are in the tree; some may have been removed or renamed shortly before the state directory was lost',
  )
}
