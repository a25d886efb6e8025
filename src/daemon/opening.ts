import type { Registry } from 'prom-client'
import { DatabaseDamaged } from '../base/database.ts'
import { UsageError } from '../base/errors.ts'
import { makePrivateFile } from '../base/private.ts'
import { Catalog, type CatalogOptions } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { InstrumentedStore } from '../store/instrumented.ts'
import { openStore, type StoreOptions } from '../store/index.ts'
import { ResilientStore } from '../store/resilience/store.ts'
import type { Connection } from './connection.ts'
import { storeMetrics } from './gauges.ts'

/** @throws UsageError if it is damaged, in words that say what to do */
export function openCatalog(path: string, options: CatalogOptions): Catalog {
  try {
    // SQLite would make one that others can read, and its log like it.
    makePrivateFile(path)
    return Catalog.open(path, options)
  } catch (error) {
    if (!(error instanceof DatabaseDamaged)) throw error
    throw new UsageError(
      `${error.message}. Move the state directory away and make it anew with 'ferryfs rebuild' from the store`,
      1,
      { cause: error },
    )
  }
}

/** The store of the configuration, measured, and asked again where that makes sense. */
export async function openResilientStore(
  config: Pick<MountConfig, 'store' | 'stateDir' | 'namespace' | 'opTimeout' | 'concurrency'>,
  log: Connection['log'],
  metrics: Registry,
  options: Pick<
    StoreOptions,
    'check' | 'failedSyncs' | 'mustExist' | 'onBroken' | 'readOnly' | 'probes'
  > = {},
  open: typeof openStore = openStore,
): Promise<ResilientStore> {
  const { stateDir, namespace } = config
  const raw = await open(config.store, { stateDir, namespace, log, ...options })
  return new ResilientStore(new InstrumentedStore(raw, storeMetrics(metrics)), {
    deadlineMs: config.opTimeout,
    concurrency: Math.max(64, config.concurrency * 4),
    queue: 100_000,
    log,
  })
}
