import { isAbsolute, resolve } from 'node:path'
import { UsageError } from '../base/errors.ts'
import type { FailedSyncs } from '../base/failed-syncs.ts'
import { isNamespace, NAMESPACE_RULE } from '../base/namespace.ts'
import type { Log } from '../observe/log.ts'
import type { KeyValueStore } from './contract.ts'
import { ReadOnlyStore } from './read-only.ts'

export interface StoreOptions {
  /** Where `embedded:` without a path keeps its files. */
  readonly stateDir: string
  /** Keeps several trees in one store apart. */
  readonly namespace: string
  readonly log: Log
  /** Hears of syncs of a store on this machine that fail. */
  readonly failedSyncs?: FailedSyncs
  /** As in EmbeddedStoreOptions: the disk of a store on this machine is asked whether it takes writes before anything is committed to it. */
  readonly probes?: boolean
  /** `false`: what a store on this machine has is not looked through for damage before it is used. */
  readonly check?: boolean
  /**
   * A store on this machine that is not there is not made: its name may be mistyped, or its disk may not be mounted. Text says
   * what to do about it.
   */
  readonly mustExist?: boolean | string
  /** Nothing in the store is to be changed, and one that is not there is not made. */
  readonly readOnly?: boolean
  /** The disk has lost what a store on this machine committed: the store is to be opened anew. */
  onBroken?(error: unknown): void
}

type Loader = (url: string, options: StoreOptions) => Promise<KeyValueStore>

// Each adapter is loaded when it is asked for: the client library of one store costs the users of another nothing.
const LOADERS: Readonly<Record<string, Loader>> = {
  async embedded(url, options) {
    const path = url.slice('embedded:'.length)
    if (path !== '' && !isAbsolute(path)) {
      throw new UsageError(`--store ${url}: the path must be absolute, as in embedded:/srv/ferryfs-store`)
    }
    const { EmbeddedStore, requireStore } = await import('./embedded/store.ts')
    const directory = resolve(path === '' ? `${options.stateDir}/store` : path, options.namespace)
    if (options.mustExist) requireStore(directory, options.mustExist === true ? '' : options.mustExist)
    return options.readOnly
      ? EmbeddedStore.openToRead(directory, { ...options, url })
      : EmbeddedStore.open(directory, { ...options, url })
  },

  async memory(url) {
    if (url !== 'memory:') throw new UsageError(`--store ${url}: nothing may follow memory:`)
    const { MemoryStore } = await import('./memory/store.ts')
    return new MemoryStore()
  },

  async riak(url, options) {
    const { openRiakStore } = await import('./riak/index.ts')
    return openRiakStore(url, options)
  },
}

/**
 * Opens the store that a URL names: `embedded:`, `embedded:/absolute/path`, `memory:` or one of the other schemes.
 * The path of `embedded:` is taken as it stands, without percent decoding.
 * @throws UsageError if the URL or the namespace is malformed, or the store is damaged or in use by another process
 */
export async function openStore(url: string, options: StoreOptions): Promise<KeyValueStore> {
  if (!isNamespace(options.namespace))
    throw new UsageError(`namespace ${JSON.stringify(options.namespace)}: it must be ${NAMESPACE_RULE}`)
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url)?.[1] ?? ''
  const loader = Object.hasOwn(LOADERS, scheme) ? LOADERS[scheme] : undefined
  if (!loader) {
    // Only the scheme is repeated: what follows may hold a password.
    throw new UsageError(
      `--store ${scheme === '' ? 'has no scheme' : `${scheme}: is not a known store`}; known are ` +
        Object.keys(LOADERS)
          .map((name) => `${name}:`)
          .join(', '),
    )
  }
  const store = await loader(url, options)
  return options.readOnly ? new ReadOnlyStore(store) : store
}
