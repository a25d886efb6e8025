import { UsageError } from '../../base/errors.ts'
import type { KeyValueStore } from '../contract.ts'
import { StoreRejected } from '../errors.ts'
import { toStoreError } from './failures.ts'
import { RiakStore, type RiakStoreOptions } from './store.ts'
import { parseRiakUrl } from './url.ts'

/**
 * Opens `riak://host:port,host:port/?…`. A cluster that cannot be reached now is no reason to fail: the store answers
 * StoreUnavailable until it can be (ping it to know). What will not mend by itself is.
 * @throws UsageError for a malformed URL, a missing or unfit bucket type, or credentials that are refused
 */
export async function openRiakStore(url: string, options: RiakStoreOptions): Promise<KeyValueStore> {
  const store = new RiakStore(parseRiakUrl(url), options)
  try {
    await store.prepare()
  } catch (error) {
    const failure = error instanceof UsageError ? error : toStoreError('Riak', error, false)
    if (failure instanceof UsageError || failure instanceof StoreRejected) {
      await store.close()
      throw failure instanceof UsageError ? failure : new UsageError(failure.message, 2, { cause: error })
    }
    options.log.warn(
      { store: store.url, err: failure },
      'Riak cannot be reached now; it is tried again with every request',
    )
  }
  return store
}
