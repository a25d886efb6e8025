import { reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { fileId, type Garbage, type Inode, parseContentKey } from '../catalog/index.ts'
import { decodeFileObject, parseShardKey } from '../content/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { StoreCorrupt } from '../store/errors.ts'
import { printable } from '../sys/index.ts'
import type { NamespaceLease } from './lease.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'

type Space = Garbage['space']

/** An object that no path names. */
export interface Stray {
  readonly space: Space
  readonly key: string
  /** Why it stays for now; nothing where it was swept, or would be. */
  readonly reason?: string
}

export interface SweepReport {
  /** Objects that were looked at. */
  readonly objects: number
  /** Objects that no path names. */
  readonly found: number
  readonly swept: number
  /** The first of them. */
  readonly strays: readonly Stray[]
  /** Why nothing may be swept, though something was found. */
  readonly refused?: string
}

export interface SweepOptions {
  readonly dryRun: boolean
  /** Also where the catalog cannot know whether somebody needs them: it has not known the namespace from its beginning. */
  readonly all: boolean
  readonly onProgress: (progress: RunProgress) => void
  readonly signal: AbortSignal
}

/** One is not to be met while it is looked at, many at once would be a long turn. */
const AT_ONCE = 64
/** What is beyond is counted. */
const STRAYS_LISTED = 1000

const SPACES: readonly Space[] = ['files', 'dirs', 'chunks']

/**
 * Finds the objects of the namespace that no path names any more, and deletes them. A key that the catalog does not know is one
 * that it has given up, if it has known all of them from the beginning; whatever else could be is left.
 *
 * The sweep itself deletes nothing that is not garbage to all others too: in one transaction it looks once more and lists the
 * objects, and what is listed goes the way of all garbage: once that is flushed, unless a record may still lead to it, and not while the
 * file is being uploaded or is in use again.
 */
export class Sweep {
  readonly #context: OverlayContext
  readonly #lease: NamespaceLease
  readonly #options: SweepOptions
  readonly #meter: ProgressMeter
  readonly #strays: Stray[] = []
  #found = 0
  #swept = 0
  #refused: string | undefined

  constructor(context: OverlayContext, lease: NamespaceLease, options: SweepOptions) {
    this.#context = context
    this.#lease = lease
    this.#options = options
    this.#meter = new ProgressMeter('sweeping', options.onProgress)
  }

  /** @throws StoreError; StoreSuperseded if somebody else has the namespace */
  async run(): Promise<SweepReport> {
    const { signal } = this.#options
    this.#refused = this.#whyNot()
    for (const space of SPACES) {
      let unnamed: string[] = []
      for await (const key of this.#context.store.keys(space, { signal })) {
        signal.throwIfAborted()
        this.#meter.files += 1
        this.#meter.tick()
        if (this.#judge(space, key) !== 'named') unnamed.push(key)
        if (unnamed.length >= AT_ONCE) {
          await this.#settle(space, unnamed)
          unnamed = []
        }
        await giveWay()
      }
      await this.#settle(space, unnamed)
    }
    this.#meter.tick(true)
    return {
      objects: this.#meter.files,
      found: this.#found,
      swept: this.#swept,
      strays: this.#strays,
      ...(this.#refused !== undefined && this.#found > this.#swept && { refused: this.#refused }),
    }
  }

  /** Why nobody can say of an object that the catalog does not know whether it is needed. */
  #whyNot(): string | undefined {
    const { doubts } = this.#context.catalog
    if (doubts.any)
      return "the catalog has lost transactions, and what it does not know may be of them: see 'ferryfs verify'"
    if (doubts.anyLost)
      return 'the store has lost some of what the tree is made of, and what is found may belong to it'
    if (this.#lease.knowsAll(this.#context.catalog) || this.#options.all) return undefined
    return (
      'this state directory has not known the namespace from its beginning (made by rebuild, an older copy, an older ferryfs): ' +
      'of what it does not know it cannot tell whether somebody needs it; --all takes it all the same'
    )
  }

  /**
   * Whether the catalog knows the object: it has a file or directory that refers to it, or has listed it as garbage already. `busy`: it
   * does not, but that is about to change, or something that is about to change leads to it.
   */
  #judge(space: Space, key: string): 'named' | 'busy' | 'stray' {
    const { catalog } = this.#context
    if (catalog.outbox.isListed(space, key)) return 'named'
    if (space === 'files') return catalog.byKey(key) === undefined ? 'stray' : 'named'
    const place = space === 'chunks' ? parseContentKey(key) : parseShardKey(key)
    const inode = this.#inodeOf(place?.id ?? key)
    if (!inode) return 'stray'
    if (space === 'dirs') {
      const shard = parseShardKey(key)
      if (!shard || (shard.generation === inode.dirGeneration && shard.shard < inode.dirShards))
        return 'named'
      return catalog.outbox.find('directory', inode.ino) ? 'busy' : 'stray'
    }
    const chunk = parseContentKey(key)
    if (!chunk) return 'busy'
    const hash = catalog.content.hash(inode.generation, chunk.level, chunk.index)
    if (hash?.toString('hex') === chunk.hash) return 'named'
    // Until the file is stored its object may be a version that the catalog has lost, and lead there.
    const isStored = inode.version > 0 && inode.dirty === 0 && !catalog.outbox.find('upload', inode.ino)
    return isStored && !inode.orphan ? 'stray' : 'busy'
  }

  /** The file or directory with this id. */
  #inodeOf(id: string): Inode | undefined {
    const ino = inoOf(id)
    const inode = ino === undefined ? undefined : this.#context.catalog.get(ino)
    return inode && fileId(inode) === id ? inode : undefined
  }

  async #settle(space: Space, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return
    const found: Garbage[] = []
    for (const key of keys) {
      const stray = await this.#asGarbage(space, key)
      if (stray) found.push(stray)
    }
    if (found.length === 0) return
    // What was listed before this was written before anybody else could have the namespace.
    await this.#lease.assertOwned(this.#context.catalog, this.#context.epoch)
    if (this.#options.dryRun || this.#refused !== undefined) {
      for (const { key } of found) this.#note({ space, key })
      return
    }
    const listed = this.#list(found)
    faultPoint('migration.sweep.listed')
    await this.#context.catalog.flush()
    for (const garbage of listed) {
      this.#options.signal.throwIfAborted()
      if (await this.#context.carrier.collectNow(garbage)) {
        this.#swept += 1
        this.#note({ space, key: garbage.key })
        faultPoint('migration.sweep.deleted')
      } else this.#leave(space, garbage.key, 'a record in the store may still lead to it: it goes with that')
    }
  }

  /** In one transaction looks whether they still are what they were, and lists them. */
  #list(found: readonly Garbage[]): Garbage[] {
    const { catalog } = this.#context
    return catalog.transaction(() => {
      const strays = found.filter(({ space, key }) => this.#judge(space, key) === 'stray')
      for (const { space, key, epoch, version, ino } of strays)
        catalog.outbox.discard(space, key, epoch, version, ino)
      return strays
    })
  }

  /** What is to be listed of an object; nothing if it is not to go now. @throws StoreError */
  async #asGarbage(space: Space, key: string): Promise<Garbage | undefined> {
    if (this.#judge(space, key) === 'busy') {
      this.#leave(space, key, 'what it belongs to is being written: run it again')
      return undefined
    }
    if (space !== 'files') {
      const ino = inoOf((space === 'chunks' ? parseContentKey(key) : parseShardKey(key))?.id ?? key)
      if (ino === undefined) this.#leave(space, key, 'its key is none that ferryfs makes')
      return ino === undefined ? undefined : { space, key, epoch: 0, version: 0, ino }
    }
    try {
      const object = await this.#context.store.get(space, key, { signal: this.#options.signal })
      // Deleted since its key was listed.
      if (!object) return undefined
      const { ino } = decodeFileObject(key, object)
      return { space, key, ...object.version, ino }
    } catch (error) {
      if (!(error instanceof StoreCorrupt)) throw error
      this.#leave(space, key, `nobody can say what it was: ${reasonOf(error)}`)
      return undefined
    }
  }

  #leave(space: Space, key: string, reason: string): void {
    this.#note({ space, key, reason })
  }

  #note({ space, key, reason }: Stray): void {
    this.#found += 1
    if (this.#strays.length < STRAYS_LISTED)
      this.#strays.push({ space, key: printable(Buffer.from(key)), ...(reason !== undefined && { reason }) })
  }
}

/** The inode number that an id begins with; `undefined` for what is no id. */
function inoOf(id: string): bigint | undefined {
  const [, ino] = /^([0-9a-f]{1,16})-[0-9a-f]{1,14}$/.exec(id) ?? []
  return ino === undefined ? undefined : BigInt(`0x${ino}`)
}
