import type { Catalog } from '../catalog/index.ts'
import { ClaimedStore, type NamespaceLease } from '../migration/index.ts'
import type { KeyValueStore } from '../store/contract.ts'
import type { Connection } from './connection.ts'

/** The namespace as this worker has it. */
export interface Namespace {
  readonly epoch: number
  /** The store has been told. */
  readonly claimed: boolean
  /** The store to write to: nothing is written there before it has been told. */
  readonly written: KeyValueStore
  /**
   * Looks whether the namespace still is this mount's, or takes it, and tells the store how far the catalog has come.
   * @throws StoreError; StoreSuperseded if it is not
   */
  readonly look: () => Promise<void>
}

/** Takes the namespace for a mount, or goes on with it. @throws StoreError, UsageError */
export async function takeNamespace(
  lease: NamespaceLease,
  catalog: Catalog,
  store: KeyValueStore,
  { takesOver, log }: Pick<Connection, 'takesOver' | 'log'>,
): Promise<Namespace> {
  const before = catalog.doubts.losses().length
  // Under the epoch of lost transactions the store may have versions that are going to be used again.
  const { epoch, claimed } =
    takesOver && !catalog.hasJustLost ? lease.taken(catalog) : await lease.take(catalog)
  for (const { detail } of catalog.doubts.losses().slice(before))
    log.error({ epoch }, `${detail}; 'ferryfs verify' lists them`)
  if (claimed) return { epoch, claimed, written: store, look: () => lease.tell(catalog, epoch) }
  log.warn({ epoch }, 'mounted without the store: nothing is written there before it answers')
  const written = new ClaimedStore(store, () => lease.claim(catalog, epoch))
  const look = async (): Promise<void> => {
    await written.claim()
    await lease.tell(catalog, epoch)
  }
  return { epoch, claimed, written, look }
}
