import { isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { untilNextTick } from '../base/clock.ts'
import { delay, KeyedMutex } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import { attributesOf, DIRTY_CONTENT, fileId, type Inode, LAYOUT_INLINE } from '../catalog/index.ts'
import { contentTypeOf, fileKey } from '../store/layout.ts'
import type { Stat } from '../sys/index.ts'
import type { NodeActivity } from './activity.ts'
import { type ContentContext, chunkCount } from './context.ts'
import { type Copied, Copier } from './copier.ts'
import { requireNotHeld } from './held.ts'
import type { LegacyFiles } from './legacy-files.ts'
import { encodeFileObject, requireReadable } from './manifest.ts'
import type { Reader } from './reader.ts'
import { CHANGED, type Snapshot } from './snapshot.ts'
import type { Staging } from './staging.ts'
import {
  fingerprintOf,
  legacyStat,
  matches,
  owe,
  placeOf,
  readLegacyXattrs,
  requireLegacy,
  takeOver,
} from './takeover.ts'
import type { VolumeProof } from './volume-proof.ts'
import type { Writer } from './writer.ts'

/**
 * What became of an upload. `behind`: the store has the file as it was at a moment since the upload was asked for, and it has changed
 * since. `busy`: it kept changing; to be tried again. `gone`: there is nothing to store.
 */
export type UploadResult = 'stored' | 'behind' | 'busy' | 'gone'

const ROUNDS = 3
// Of a file that is in the store for the first time, in one turn of the event loop.
const NAMES_AT_ONCE = 64
// A tick of a kernel's clock is waited for in place, one of a volume with whole seconds is not.
const LONGEST_TICK_WAIT_MS = 50

/**
 * Brings the store up to date with one file: chunks, then the file's object, then the catalog. One upload of a file at a
 * time. A copy during which the file changed is never recorded as its content.
 */
export class Uploader {
  readonly #context: ContentContext
  readonly #staging: Staging
  readonly #legacy: LegacyFiles
  readonly #copier: Copier
  readonly #writer: Writer
  readonly #proof: VolumeProof
  readonly #locks = new KeyedMutex<bigint>()
  #underWay = 0

  constructor(
    context: ContentContext,
    parts: { legacy: LegacyFiles; staging: Staging; reader: Reader; writer: Writer; proof: VolumeProof },
  ) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#copier = new Copier(context, parts)
    this.#staging = parts.staging
    this.#writer = parts.writer
    this.#proof = parts.proof
  }

  /** Runs `body` while no upload of the file is under way. */
  exclusively<T>(ino: bigint, body: () => Promise<T>): Promise<T> {
    return this.#locks.run(ino, body)
  }

  /** Files are being uploaded, by whomever. */
  get isBusy(): boolean {
    return this.#underWay > 0
  }

  /** @throws StoreError, FsError */
  upload(ino: bigint, signal?: AbortSignal): Promise<UploadResult> {
    return this.#locks.run(ino, async () => {
      const node = this.#context.activity.of(ino)
      node.pins += 1
      this.#underWay += 1
      try {
        for (let round = 0; round < ROUNDS; round += 1) {
          const result = await this.#attempt(ino, node, signal)
          if (result !== 'busy') return result
        }
        return 'busy'
      } finally {
        this.#underWay -= 1
        node.pins -= 1
        this.#context.activity.settle(ino)
      }
    })
  }

  async #attempt(ino: bigint, node: NodeActivity, signal: AbortSignal | undefined): Promise<UploadResult> {
    const { catalog, store, epoch } = this.#context
    const work = catalog.outbox.find('upload', ino)
    let inode = catalog.get(ino)
    if (!inode || inode.orphan || isDirectory(inode.mode)) {
      if (work) catalog.transaction(() => catalog.outbox.done(work))
      return 'gone'
    }
    requireNotHeld(this.#context, ino)
    // Only where the legacy copy is to go: on a volume that stays, a change past the overlay has to be seen.
    if (this.#context.policy().removesLegacy && inode.authority === 'legacy') {
      if (node.volumeWrites > 0) return 'busy'
      inode = takeOver(this.#context, ino)
    }
    if (!(await this.#isWrittenBack(inode, node))) return 'busy'
    inode = catalog.get(ino)
    if (!inode || inode.orphan) return 'busy'
    const snapshot = this.#snapshot(inode)
    const changes = node.changes
    const isUntouched = node.changing === 0
    const unchanged = (): boolean => isUntouched && node.changes === changes && node.changing === 0
    const bytes = this.#context.activity.watchBytes(node, snapshot.record.attributes.size)
    // What was appended meanwhile does not make the copy of what was there before a wrong one.
    const isWhole = (): boolean =>
      unchanged() ? this.#isSame(ino, snapshot) : !bytes.areChanged && this.#hasGrown(ino, snapshot)
    if (bytes.areChanged || !(await this.#isPastTick(inode, snapshot))) return 'busy'
    const claimed = await catalog.shared(() => this.#claim(ino))
    if (!claimed) return 'busy'
    const { key, version, fresh } = claimed
    faultPoint('content.upload.claimed')
    if (!fresh) await this.#letGo(ino)
    const copied = await this.#copier.copy(ino, snapshot, signal)
    if (!copied || !isWhole()) return 'busy'
    const object = encodeFileObject(snapshot.record, copied.content)
    requireReadable(key, object, snapshot.record, copied.content)
    if (this.#replacesOnlyCopy(ino, object.digest)) {
      await this.#writer.preserve(ino, signal)
      return 'busy'
    }
    faultPoint('content.upload.chunks-stored')
    await store.put(
      'files',
      key,
      {
        value: object.value,
        metadata: object.metadata,
        version: { epoch, version },
        contentType: copied.layout === LAYOUT_INLINE ? contentTypeOf(key) : 'application/json',
      },
      { fresh, ...(signal && { signal }) },
    )
    faultPoint('content.upload.object-stored')
    const owed = await this.#moveOver(ino)
    const isClean = (): boolean => unchanged() && this.#isSame(ino, snapshot)
    const stored = {
      version,
      digest: object.digest,
      isClean,
      work: owed ? catalog.outbox.find('upload', ino) : work,
    }
    const clean = await catalog.shared(() => this.#record(ino, snapshot, copied, stored))
    if (catalog.get(ino)?.truncating !== undefined) await this.#tidy(ino)
    return clean ? 'stored' : 'behind'
  }

  /**
   * An inline object holds the file's own bytes under the one key that the next version gets too. Where the file still
   * takes bytes from it, a crash or a lost acknowledgement after the write would leave them nowhere.
   */
  #replacesOnlyCopy(ino: bigint, digest: Buffer): boolean {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (inode?.authority !== 'catalog' || inode.base !== 'store' || inode.layout !== LAYOUT_INLINE)
      return false
    const read = isRegular(inode.mode) && inode.baseLimit > 0 && inode.storedSize > 0
    return read && !catalog.staged.has(ino, 0) && inode.digest?.equals(digest) !== true
  }

  /**
   * The object under the key is going to be replaced. A power loss must not bring back a catalog that needs it: what the file
   * is now is flushed before, with its bytes where they are in its staging file alone.
   */
  async #letGo(ino: bigint): Promise<void> {
    const inode = this.#context.catalog.get(ino)
    if (inode?.authority === 'catalog') await this.#writer.sync(ino)
    await this.#context.catalog.flush()
  }

  /** Key and version of the object to be written; both are in the catalog before the store hears of them. */
  #claim(ino: bigint): { key: string; version: number; fresh: boolean } | undefined {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode || inode.orphan) return undefined
    const version = catalog.numbers.nextVersion()
    if (inode.key !== undefined) return { key: inode.key, version, fresh: false }
    const path = catalog.links.pathOf(ino) ?? Buffer.from(fileId(inode))
    const plain = fileKey(path)
    // A file that was renamed away keeps its key; the newcomer gets one of its own. So it does while the object of a file that was
    // removed is there: a record in the store may still lead to it.
    const isUsed = catalog.byKey(plain) !== undefined || catalog.outbox.isListed('files', plain)
    // Nor may what the catalog has lost be overwritten.
    const taken = isUsed || catalog.doubts.mayLackKeys
    const key = taken ? fileKey(path, fileId(inode)) : plain
    catalog.assignKey(inode, key)
    return { key, version, fresh: true }
  }

  #snapshot(inode: Inode): Snapshot {
    const { catalog } = this.#context
    if (inode.authority === 'catalog') {
      return {
        record: {
          ino: inode.ino,
          generation: inode.generation,
          attributes: attributesOf(inode),
          xattrs: inode.xattrs,
        },
        stat: undefined,
        target: inode.target,
        base: { base: inode.base, fingerprint: inode.fingerprint },
        sameContent: inode.base === 'store' && !inode.staged && (inode.dirty & CHANGED) === 0,
      }
    }
    const stat = legacyStat(this.#context, inode)
    const legacy = requireLegacy(this.#context)
    const place = placeOf(catalog, inode.ino, legacy)
    if (!place) throw new Error(`inode ${inode.ino} has no place on the legacy volume`)
    return {
      record: {
        ino: inode.ino,
        generation: inode.generation,
        attributes: { ...stat, ino: inode.ino },
        xattrs: readLegacyXattrs(legacy, place),
      },
      stat,
      target: isSymlink(stat.mode) ? legacy.target(place) : undefined,
      base: { base: 'legacy', fingerprint: fingerprintOf(stat) },
      sameContent: inode.version > 0 && (inode.dirty & CHANGED) === 0 && matches(inode.fingerprint, stat),
    }
  }

  /** The legacy file is still as it was at the snapshot. */
  #isSame(ino: bigint, snapshot: Snapshot): boolean {
    const inode = this.#context.catalog.get(ino)
    if (!inode || inode.orphan) return false
    if (!snapshot.stat) return inode.authority === 'catalog' && isBasedOn(inode, snapshot.base)
    return (
      inode.authority === 'legacy' && matches(fingerprintOf(snapshot.stat), legacyStat(this.#context, inode))
    )
  }

  /** As far as the volume and the catalog tell, whoever changed it since the snapshot only appended. */
  #hasGrown(ino: bigint, snapshot: Snapshot): boolean {
    const inode = this.#context.catalog.get(ino)
    if (!inode || inode.orphan) return false
    if (!snapshot.stat) return this.#isSame(ino, snapshot)
    return inode.authority === 'legacy' && legacyStat(this.#context, inode).size >= snapshot.stat.size
  }

  /**
   * True once a change of the legacy file from now on gets a ctime of its own: before that what is read of it is no proof. What
   * would be too long a wait in the place of others is left for later.
   */
  async #isPastTick(inode: Inode, snapshot: Snapshot): Promise<boolean> {
    const stat = snapshot.stat ?? this.#baseStat(inode)
    if (!stat || !isRegular(stat.mode)) return true
    const milliseconds = untilNextTick(stat.ctimeNs, Date.now())
    if (milliseconds > LONGEST_TICK_WAIT_MS) return false
    if (milliseconds > 0) await delay(milliseconds)
    return true
  }

  /**
   * Who has the legacy file mapped writes to a dirty page without moving its times, so what others can write to goes to the disk
   * first: from then on each change of it shows. False if it has just been changed.
   */
  async #isWrittenBack(inode: Inode, node: NodeActivity): Promise<boolean> {
    if (!isRegular(inode.mode)) return true
    const isOwn = inode.authority === 'legacy'
    const stat = isOwn ? legacyStat(this.#context, inode) : this.#baseStat(inode)
    if (!stat) return true
    const { changes } = node
    const bytes = this.#context.activity.watchBytes(node, stat.size)
    await this.#legacy.letWritersGo(inode.ino)
    // Whoever has opened it for writing meanwhile is found, ourselves too: what is written so is looked at below.
    if (this.#legacy.underLease(inode.ino, (writers) => writers === 'none')) return true
    await this.#legacy.sync(inode.ino, true)
    const now = this.#context.catalog.get(inode.ino)
    if (!now) return false
    const after = legacyStat(this.#context, now)
    if (matches(fingerprintOf(stat), after)) return true
    // Appended to, through the overlay.
    return isOwn && node.changes !== changes && !bytes.areChanged && after.size >= stat.size
  }

  /** The legacy file from which the catalog's own file still takes bytes; undefined where none can be looked at. */
  #baseStat(inode: Inode): Stat | undefined {
    if (inode.authority !== 'catalog' || inode.base !== 'legacy') return undefined
    try {
      return legacyStat(this.#context, inode)
    } catch (error) {
      // Whoever needs its bytes meets that.
      if (error instanceof FsError) return undefined
      throw error
    }
  }

  /**
   * The store has the whole of the new version: its chunks become the file's, but for what fits into the transaction that records
   * it. Meanwhile the catalog lists chunks of either, and nobody may take the file for one that is stored: true if that had to be
   * noted.
   */
  async #moveOver(ino: bigint): Promise<boolean> {
    const { catalog } = this.#context
    for (let owed = false; ; ) {
      const generation = catalog.get(ino)?.generation
      if (generation === undefined || !catalog.content.hasMuchIncoming(generation)) return owed
      await catalog.shared(() => {
        const inode = catalog.get(ino)
        if (inode?.generation !== generation) return
        if (inode.version > 0 && (inode.dirty & CHANGED) === 0) {
          owe(catalog, inode, DIRTY_CONTENT)
          owed = true
        }
        catalog.content.moveIncoming(inode)
      })
      faultPoint('content.upload.moving')
      await giveWay()
    }
  }

  /**
   * Within one transaction makes the stored version the file's; what it replaced becomes garbage. Once that is committed,
   * and in the same turn, a staging file that is not needed any more is given up. True if the file did not change meanwhile.
   */
  #record(
    ino: bigint,
    snapshot: Snapshot,
    copied: Copied,
    stored: {
      version: number
      digest: Buffer
      isClean(): boolean
      work: ReturnType<ContentContext['catalog']['outbox']['find']>
    },
  ): boolean {
    const { catalog, epoch } = this.#context
    const clean = stored.isClean()
    const inode = catalog.get(ino)
    if (!inode) return clean
    const first = inode.version === 0
    if (!copied.isPlain) {
      catalog.content.moveIncoming(inode)
      if (copied.layout === LAYOUT_INLINE) catalog.content.setInline(inode.generation, copied.zeros)
    }
    inode.epoch = epoch
    inode.version = stored.version
    inode.layout = copied.layout
    inode.digest = stored.digest
    inode.storedSize = snapshot.record.attributes.size
    inode.failure = undefined
    if (snapshot.stat && inode.authority === 'legacy') inode.fingerprint = fingerprintOf(snapshot.stat)
    // Taken over meanwhile, after a change past the overlay: what was copied is not what the file is based on.
    const isBase = inode.authority === 'catalog' && isBasedOn(inode, snapshot.base)
    const staging = isBase ? this.#rebase(inode, clean) : 0
    if (clean) {
      inode.dirty = 0
      if (stored.work) catalog.outbox.done(stored.work)
    }
    catalog.save(inode)
    if (snapshot.base.base === 'legacy') this.#proof.note(ino)
    if (first) this.#announce(ino)
    catalog.afterCommit(() => {
      faultPoint('content.upload.recorded')
      this.#staging.release(inode, staging)
    })
    return clean
  }

  /** The store is the base from now on. The number of the staging file if it is not needed any more, else 0. */
  #rebase(inode: Inode, clean: boolean): number {
    if (!isRegular(inode.mode)) return 0
    const { catalog } = this.#context
    const whole = inode.baseLimit >= chunkCount(inode.size) && inode.size === inode.fingerprint?.size
    // Changed through the overlay: the legacy copy is not what is stored any more, and whatever it becomes it has lost.
    const changed = inode.base === 'legacy' || (inode.dirty & DIRTY_CONTENT) !== 0
    if (changed && (inode.staged > 0 || !whole)) supersede(inode)
    inode.base = 'store'
    if (!clean) return 0
    inode.baseLimit = chunkCount(inode.size)
    if (!catalog.staged.drop(inode.ino, 0)) {
      // What is left of them counts for nothing, and goes in turns of its own.
      inode.truncating = 0
      return 0
    }
    const had = inode.staged
    inode.staged = 0
    inode.truncating = undefined
    return had
  }

  /** The file is stored, and its staging file of no use. Whoever changes the file next, the reaper or the next start does it otherwise. */
  async #tidy(ino: bigint): Promise<void> {
    try {
      await this.#writer.tidy(ino)
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      this.#context.log.warn({ err: error, ino: ino.toString() }, 'what was staged of a file goes later')
    }
  }

  /** The file is in the store for the first time: the records of its directories have to say so. */
  #announce(ino: bigint): void {
    const { catalog } = this.#context
    const links = [...catalog.links.of(ino).take(NAMES_AT_ONCE)]
    for (const link of links) catalog.records.announce(link)
    const inode = links.length === 0 ? catalog.get(ino) : undefined
    // The names that it had lead to it as long as nobody has met another one.
    if (inode) catalog.records.touchNamesLeft(inode)
    // Some in each turn, and as long as they are owed, the file has names that are not durable.
    if (links.length === NAMES_AT_ONCE) catalog.outbox.add('names', ino)
  }

  /** The records have to say so of all names of the file; cut short, all of it is done once more. */
  async announceAll(ino: bigint): Promise<void> {
    const { catalog } = this.#context
    const work = catalog.outbox.find('names', ino)
    if (!work) return
    for (const page of pagesOf(catalog.links.of(ino), NAMES_AT_ONCE)) {
      await catalog.ready()
      catalog.transaction(() => {
        for (const { parent, name } of page) {
          const now = catalog.dirents.get(parent, name)
          if (now?.ino === ino) catalog.records.announce(now)
        }
      })
      faultPoint('content.names.announced')
      await giveWay()
    }
    catalog.transaction(() => catalog.outbox.done(work))
  }
}

/** The legacy file is what it was when the file was taken over, and nothing of it is needed any more. */
function supersede(inode: Inode): void {
  if (inode.legacyIno !== undefined) inode.superseded = inode.fingerprint ?? inode.superseded
  inode.fingerprint = undefined
}

/** Whether chunks that were not changed through the overlay are still the same ones. */
function isBasedOn(inode: Inode, { base, fingerprint }: Snapshot['base']): boolean {
  if (inode.base !== base) return false
  const now = inode.fingerprint
  // Only a legacy base can have become another one under the same name.
  if (base !== 'legacy' || now === undefined || fingerprint === undefined) return true
  return (
    now.size === fingerprint.size &&
    now.mtimeNs === fingerprint.mtimeNs &&
    now.ctimeNs === fingerprint.ctimeNs
  )
}
