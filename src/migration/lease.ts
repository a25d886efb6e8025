import { randomInt, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { type Catalog, KNOWS_ALL, MADE_WITHOUT_STORE } from '../catalog/index.ts'
import { CHUNK_BYTES, NAMESPACE_FORMAT } from '../content/index.ts'
import type { KeyValueStore, ObjectVersion } from '../store/contract.ts'
import { StoreCorrupt, StoreError, StoreSuperseded, StoreUnavailable } from '../store/errors.ts'

const KEY = 'namespace'

/**
 * Epochs are counted in steps of this, with a random number on top: should two ever take the same step, because they asked
 * replicas that do not know of each other, their epochs differ all the same. So everybody sees the same one of them win, and
 * every write of the other loses.
 */
const STEP = 2 ** 20

function epochAfter(previous: number): number {
  return (Math.floor(previous / STEP) + 1) * STEP + randomInt(STEP)
}

/** Meta of the catalog: an epoch that the store has not been told of. */
const UNCLAIMED = 'unclaimed-epoch'
/** Meta of the catalog: the last epoch that the store may have been told of. On the medium before the store is. */
const TOLD = 'told-epoch'
/** Meta of the catalog: the last epoch of which the store has acknowledged that it was told. What it has must not be older. */
const HEARD = 'acknowledged-epoch'
const schema = z.object({
  format: z.int().positive(),
  chunkBytes: z.int().positive(),
  owner: z.string(),
  host: z.string(),
  epoch: z.int().positive(),
  /** The last state of the owner's catalog that the store was told of. An earlier ferryfs tells none. */
  state: z.int().nonnegative().default(0),
  since: z.string(),
})
export type Lease = z.infer<typeof schema>

/** How often the namespace has been taken, at most. */
export const timesTaken = ({ epoch }: Lease): number => Math.floor(epoch / STEP)

const versionOf = ({ epoch, state }: Lease): ObjectVersion => ({ epoch, version: state })

/**
 * Whether the store has been told of the epoch of this mount. Before that nothing is destroyed on the strength of
 * the catalog.
 */
export function isClaimed(catalog: Catalog): boolean {
  return catalog.meta.get(UNCLAIMED) !== (catalog.meta.get('epoch') ?? '1')
}

/** Whether the store has acknowledged that it was told of a mount of this catalog: then it is not empty. */
export function isAcknowledged(catalog: Catalog): boolean {
  return Number(catalog.meta.get(HEARD) ?? 0) > 0
}

/**
 * Who may write a namespace. Every mount raises the epoch, under which all that it writes wins over what older writers
 * left in flight; a writer that meets a higher epoch has lost the namespace and stops.
 */
export class NamespaceLease {
  readonly #store: KeyValueStore
  readonly #namespace: string
  #telling: Promise<boolean> | undefined

  constructor(store: KeyValueStore, namespace: string) {
    this.#store = store
    this.#namespace = namespace
  }

  /** The lease as the store has it. @throws StoreError; UsageError for a format this ferryfs does not know */
  async read(): Promise<Lease | undefined> {
    const object = await this.#store.get('meta', KEY)
    if (!object) return undefined
    let json: unknown
    try {
      json = JSON.parse(object.value.toString('utf8'))
    } catch (cause) {
      throw new StoreCorrupt(`namespace ${this.#namespace}: its record is not JSON`, { cause })
    }
    const parsed = schema.safeParse(json)
    if (!parsed.success) {
      throw new StoreCorrupt(
        `namespace ${this.#namespace}: its record cannot be read: ${z.prettifyError(parsed.error)}`,
      )
    }
    const lease = parsed.data
    if (lease.format > NAMESPACE_FORMAT) {
      throw new UsageError(
        `namespace ${this.#namespace} has format ${lease.format}, this ferryfs knows ${NAMESPACE_FORMAT}: use the newer ferryfs that wrote it`,
      )
    }
    if (lease.chunkBytes !== CHUNK_BYTES) {
      throw new UsageError(
        `namespace ${this.#namespace} has chunks of ${lease.chunkBytes} bytes, this ferryfs writes ${CHUNK_BYTES}`,
      )
    }
    return lease
  }

  /**
   * Takes the namespace for the catalog's owner and returns the new epoch, durable in both before anything is written
   * under it. Where the store has an epoch of this owner that this catalog never gave out, or a later state of it, the catalog is
   * an older copy: that is noted as a loss, in the transaction that goes beyond that.
   * @throws UsageError if another owner has it and `takeOver` is not set
   */
  async acquire(catalog: Catalog, takeOver: boolean, attempts = 3): Promise<number> {
    const lease = await this.read()
    const owner = this.ownerOf(catalog)
    if (lease && lease.owner !== owner && !takeOver) {
      throw new UsageError(
        `namespace ${this.#namespace} in this store belongs to another state directory (on ${lease.host}, since ${lease.since}); choose another --namespace, or rebuild this state directory from the store to take it over`,
      )
    }
    const last = Number(catalog.meta.get('epoch') ?? 0)
    const epoch = epochAfter(Math.max(lease?.epoch ?? 0, last))
    const isFirst = !lease && last === 0 && !takeOver
    const without = catalog.meta.get(MADE_WITHOUT_STORE)
    catalog.transaction(() => {
      this.#noteOthers(catalog, lease)
      if (this.#isOlderCopy(catalog, lease)) catalog.noteOlderCopy(without ? Number(without) : undefined)
      this.#noteOlderStore(catalog, lease)
      catalog.meta.set(MADE_WITHOUT_STORE, '')
      if (isFirst) catalog.meta.set(KNOWS_ALL, 'yes')
      catalog.meta.set('epoch', String(epoch))
      catalog.meta.set(TOLD, String(epoch))
      catalog.state.goBeyond(lease?.owner === owner ? lease.state : 0)
    })
    const state = await catalog.state.toTell()
    faultPoint('migration.lease.claimed')
    try {
      await this.#replace(lease, this.#record(owner, epoch, state))
    } catch (error) {
      if (!(error instanceof StoreSuperseded)) throw error
      // What the last worker told, or the mount before that still goes on, has come in between.
      if (lease && attempts > 1 && (await this.#hasOnlyGoneOn(lease)))
        return this.acquire(catalog, takeOver, attempts - 1)
      throw new UsageError(`namespace ${this.#namespace} was taken by another daemon just now`, 2, {
        cause: error,
      })
    }
    catalog.transaction(() => catalog.meta.set(HEARD, String(epoch)))
    return epoch
  }

  /**
   * As `acquire`, for a mount that has to come up also when the store does not answer: a state directory that has had the
   * namespace goes on under the next epoch, and nothing may be written before `claim` has told the store of it.
   */
  async take(catalog: Catalog): Promise<{ epoch: number; claimed: boolean }> {
    const last = Number(catalog.meta.get('epoch') ?? 0)
    try {
      return { epoch: await this.acquire(catalog, false), claimed: true }
    } catch (error) {
      if (last === 0 || !(error instanceof StoreError && error.retryable)) throw error
      // Of the epoch that was tried the store may know.
      const epoch = epochAfter(Number(catalog.meta.get('epoch')))
      catalog.transaction(() => {
        catalog.meta.set('epoch', String(epoch))
        catalog.meta.set(UNCLAIMED, String(epoch))
        // Should this be an older copy, what is made before the store can say so gets other numbers than what it lacks.
        catalog.numbers.skip()
        if (!catalog.meta.get(MADE_WITHOUT_STORE))
          catalog.meta.set(MADE_WITHOUT_STORE, String(catalog.numbers.upcomingGeneration))
      })
      await catalog.flush()
      return { epoch, claimed: false }
    }
  }

  /** The epoch under which a predecessor of this worker served. */
  taken(catalog: Catalog): { epoch: number; claimed: boolean } {
    return { epoch: Number(catalog.meta.get('epoch') ?? 1), claimed: isClaimed(catalog) }
  }

  /**
   * Tells the store of an epoch taken without it.
   * @throws StoreError; StoreSuperseded if somebody else has the namespace, or a later state of this catalog has
   *   had it: the next mount notes what that means, before anybody is served
   */
  async claim(catalog: Catalog, epoch: number): Promise<void> {
    const lease = await this.read()
    const owner = this.ownerOf(catalog)
    if (this.#isOlderCopy(catalog, lease))
      throw new StoreSuperseded(
        `namespace ${this.#namespace}: this state directory is an older copy of itself, the store has been written to by a later one; nothing is written there until 'ferryfs unmount' and 'ferryfs mount', which takes what is newer from the store`,
      )
    if (lease && (lease.owner !== owner || lease.epoch > epoch)) {
      throw new StoreSuperseded(
        `namespace ${this.#namespace} was taken over by ${lease.host} (epoch ${lease.epoch})`,
      )
    }
    catalog.transaction(() => {
      this.#noteOthers(catalog, lease)
      this.#noteOlderStore(catalog, lease)
      catalog.meta.set(TOLD, String(epoch))
      catalog.meta.set(MADE_WITHOUT_STORE, '')
      catalog.state.goBeyond()
    })
    // Else a power cut makes an older copy of a catalog that is none.
    const state = await catalog.state.toTell()
    faultPoint('migration.lease.claiming')
    await this.#replace(lease, this.#record(owner, epoch, state))
    catalog.transaction(() => {
      catalog.meta.set(UNCLAIMED, '')
      catalog.meta.set(HEARD, String(epoch))
    })
  }

  /** Notes the losses, where there are any, and the namespace is not taken. @throws StoreError, UsageError */
  async noteOlder(catalog: Catalog): Promise<void> {
    const lease = await this.read()
    catalog.transaction(() => {
      if (this.#isOlderCopy(catalog, lease)) catalog.noteOlderCopy(undefined)
      this.#noteOlderStore(catalog, lease)
    })
  }

  /** Whether the store shows that the catalog is an older copy of itself. @throws StoreError */
  async isAheadOf(catalog: Catalog): Promise<boolean> {
    return this.#isOlderCopy(catalog, await this.read())
  }

  /** Whether the store has been told an epoch, or a state, by this owner that this catalog knows nothing of. */
  #isOlderCopy(catalog: Catalog, lease: Lease | undefined): boolean {
    if (lease?.owner !== this.ownerOf(catalog)) return false
    if (lease.state > catalog.state.last) return true
    // A catalog of an earlier ferryfs has no other record of it.
    return lease.epoch > Number(catalog.meta.get(TOLD) ?? catalog.meta.get('epoch') ?? 0)
  }

  /**
   * The store has not even the epoch that it had acknowledged: it was put back to an older copy, or is another one. Only where what a
   * store answers is the newest that it has; of the others a replica may answer that has missed it. Within the transaction that
   * goes on from what the store has, so it is told once.
   */
  #noteOlderStore(catalog: Catalog, lease: Lease | undefined): void {
    const heard = Number(catalog.meta.get(HEARD) ?? 0)
    if (!this.#store.capabilities.consistent || (lease?.epoch ?? 0) >= heard) return
    const { url } = this.#store
    catalog.noteLoss(
      lease
        ? `the store ${url} is older than what it has acknowledged: its namespace ${this.#namespace} is as it was before a later mount (on ${lease.host}, since ${lease.since}); what was stored since is missing in it or older`
        : `the store ${url} has no namespace ${this.#namespace}, which it had acknowledged: what was stored there is missing`,
    )
    catalog.meta.set(HEARD, '0')
  }

  /**
   * Somebody else has had the namespace: another state directory, or this one as it was before an older copy of it was put back.
   */
  #noteOthers(catalog: Catalog, lease: Lease | undefined): void {
    if (!lease) return
    const isOwn = lease.owner === this.ownerOf(catalog) && lease.epoch <= Number(catalog.meta.get(TOLD) ?? 0)
    if (!isOwn || lease.state > catalog.state.last) catalog.meta.set(KNOWS_ALL, '')
  }

  /**
   * Whether the catalog has known everything that is in the namespace since there was anything: what it does not name now it has given
   * up. Not so of one that was made by `rebuild`, that has lost transactions, or of which an older copy was put back.
   */
  knowsAll(catalog: Catalog): boolean {
    return catalog.meta.get(KNOWS_ALL) === 'yes'
  }

  /** @throws StoreSuperseded if another daemon has the namespace; StoreUnavailable if nobody has; StoreError */
  async assertOwned(catalog: Catalog, epoch: number): Promise<void> {
    const lease = await this.read()
    if (lease?.owner === this.ownerOf(catalog) && lease.epoch === epoch) return
    await this.check(catalog, epoch)
    throw new StoreUnavailable(`namespace ${this.#namespace} has not been taken by this mount yet`)
  }

  /** The lease is as it was but for the state that its owner was in. */
  async #hasOnlyGoneOn({ owner, epoch, state }: Lease): Promise<boolean> {
    const now = await this.read()
    return now?.owner === owner && now.epoch === epoch && now.state > state
  }

  #record(owner: string, epoch: number, state: number): Lease {
    return {
      format: NAMESPACE_FORMAT,
      chunkBytes: CHUNK_BYTES,
      owner,
      host: hostname(),
      epoch,
      state,
      since: new Date().toISOString(),
    }
  }

  /** @throws StoreSuperseded if it is not `before` any more that is there, or becomes something else at the same time */
  async #replace(before: Lease | undefined, lease: Lease): Promise<void> {
    const object = {
      value: Buffer.from(JSON.stringify(lease)),
      version: versionOf(lease),
      contentType: 'application/json',
      metadata: {},
    }
    await this.#store.put('meta', KEY, object, { replaces: before ? versionOf(before) : 'nothing' })
    // Who goes on has the namespace already, and loses it to a higher epoch whichever of the two comes first.
    if (before?.owner === lease.owner && before.epoch === lease.epoch) return
    const { replaceSettleMs } = this.#store.capabilities
    if (replaceSettleMs === 0) return
    await delay(replaceSettleMs)
    const now = await this.read()
    if (now?.owner !== lease.owner || now.epoch !== lease.epoch)
      throw new StoreSuperseded(`namespace ${this.#namespace} was taken by another daemon just now`)
  }

  /**
   * Looks whether this daemon still has the namespace. A lower lease of somebody else is one that was written late, by who has
   * been told that he does not have it: the higher one goes over it, so that both see the same one win.
   * @throws StoreSuperseded if somebody else has the namespace; StoreError
   */
  async check(catalog: Catalog, epoch: number): Promise<void> {
    await this.#look(catalog, epoch)
  }

  /** @returns the lease as it was found; undefined if there is none, or that of somebody else has gone */
  async #look(catalog: Catalog, epoch: number): Promise<Lease | undefined> {
    const lease = await this.read()
    const owner = this.ownerOf(catalog)
    if (lease && (lease.epoch > epoch || (lease.epoch === epoch && lease.owner !== owner))) {
      throw new StoreSuperseded(
        `namespace ${this.#namespace} was taken over by ${lease.host} (epoch ${lease.epoch})`,
      )
    }
    if (lease && lease.owner !== owner && this.taken(catalog).claimed) {
      await this.#replace(lease, this.#record(owner, epoch, catalog.state.flushed))
      return undefined
    }
    return lease
  }

  /**
   * Looks as `check` does, and tells the store that the catalog has changed, if it has: a copy of the state directory that was made before
   * is known as an older one from then on. Those who ask at once share it.
   * @throws StoreSuperseded if somebody else has the namespace; StoreError, FsError
   */
  async tell(catalog: Catalog, epoch: number): Promise<void> {
    this.#telling ??= this.#tell(catalog, epoch, false).finally(() => {
      this.#telling = undefined
    })
    await this.#telling
  }

  /**
   * The same before something goes of which only this catalog knows where else it is, also if nothing has changed yet.
   * @throws StoreUnavailable if the namespace is not this mount's; as `tell`
   */
  async tellFirst(catalog: Catalog, epoch: number): Promise<void> {
    await this.#telling?.catch(() => undefined)
    if (!(await this.#tell(catalog, epoch, true)))
      throw new StoreUnavailable(`namespace ${this.#namespace} has not been taken by this mount yet`)
  }

  /** @returns whether the store has a lease of this mount */
  async #tell(catalog: Catalog, epoch: number, always: boolean): Promise<boolean> {
    const lease = await this.#look(catalog, epoch)
    if (lease?.owner !== this.ownerOf(catalog) || lease.epoch !== epoch) return false
    if (!always && !catalog.state.hasChanged) return true
    await catalog.ready()
    const state = await catalog.state.raise()
    faultPoint('migration.lease.telling')
    try {
      await this.#replace(lease, { ...lease, state })
    } catch (error) {
      if (!(error instanceof StoreSuperseded)) throw error
      // Perhaps by what this mount has told before, whose answer was lost.
      const now = await this.#look(catalog, epoch)
      if (!now || now.state < state)
        throw new StoreUnavailable(`the record of namespace ${this.#namespace} has changed meanwhile`, {
          cause: error,
        })
    }
    return true
  }

  /** Identifies the state directory among all that ever wrote the namespace. */
  ownerOf(catalog: Catalog): string {
    const known = catalog.meta.get('owner')
    if (known !== undefined) return known
    const owner = randomUUID()
    catalog.transaction(() => catalog.meta.set('owner', owner))
    return owner
  }
}
