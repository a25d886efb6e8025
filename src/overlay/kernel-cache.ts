import { constants } from 'node:fs'
import { isRegular } from '../base/attributes.ts'
import { untilNextTick } from '../base/clock.ts'
import { FsError } from '../base/errors.ts'
import type { Fingerprint, Inode } from '../catalog/index.ts'
import { fingerprintOf } from '../content/index.ts'
import type { Stat } from '../sys/index.ts'
import type { KernelNotifier } from '../fuse/operations.ts'
import type { OverlayContext } from './context.ts'

/** How long the kernel may believe attributes of the legacy volume: a change past the overlay is seen within this time. */
export const LEGACY_TTL_MS = 1000
/** What the catalog has authority over changes only through this mount. */
export const CATALOG_TTL_MS = 10_000

/** How long what was told is remembered at least: the kernel believes it from when it takes the answer, on a busy machine later. */
const TOLD_MS = 3 * LEGACY_TTL_MS

/** A READ that began before the kernel was made to forget may wait for the store meanwhile. */
const LONGEST_READ_MS = 60_000

/** What a file may cost in memory. */
const MOST_FAILED = 1000

/** A transport whose kernel keeps nothing that it has to be told of. */
const KEEPS_NOTHING: KernelNotifier = {
  invalidateNode: () => undefined,
  invalidateName: () => undefined,
  expireAttributes: () => undefined,
  dropPages: () => Promise.resolve(),
}

/** Of a file whose attributes the kernel was made to forget. */
interface Forgotten {
  times: number
  /** It has not been told since. */
  isUntold: boolean
  /** The largest size that it may have for the file. */
  reach: number
  /** Offsets at which a READ has failed because of that: the kernel asks once more, and is answered. */
  readonly failed: Set<number>
  /** What the last one asked for: the kernel asks for each page of that once more. `times` as it was then. */
  last: { readonly offset: number; readonly end: number; readonly times: number } | undefined
  readonly atMs: number
}

interface Told extends Fingerprint {
  /**
   * It was told something else not long before. Of two answers that were under way at once the kernel drops the one whose request is
   * older than what it has applied (fuse_change_attributes() in fs/fuse/inode.c), which may be the newer answer.
   */
  readonly isDoubtful: boolean
  /** The largest size that the kernel may have by this: what it wrote itself counts as well. */
  reach: number
}

/**
 * What the kernel caches of regular files: their attributes for a while, and their pages from one open to the next. P1 asks that a
 * reader never gets pages of one state at the length of another, nor pages that outlive what they were read from.
 *
 * - The kernel cuts what it reads at the size that it was told, up to a second ago. So an open that finds the file other than
 *   it was told has the kernel ask again before the first read.
 * - It keeps the pages over an open only under the same tag. No tag is taken while the file changes.
 * - An open file whose ctime moved under the same size and mtime loses its pages: the kernel looks at those two alone.
 * - An asynchronous direct write has the kernel drop pages and attributes when it is sent and not when it is done (fs/fuse/file.c
 *   has no part for that, as iomap has). So what others read while it was under way is dropped before it is answered.
 */
export class KernelCache {
  readonly #context: OverlayContext
  readonly #statOf: (inode: Inode) => Stat | undefined
  readonly #startedMs = performance.now()
  /** Two generations, so that what is older than the kernel believes goes without a timer for each. */
  #told = new Map<bigint, Told>()
  #toldBefore = new Map<bigint, Told>()
  #turnedMs = performance.now()
  /** Files that the catalog gave back to the volume, and until when the kernel may believe what the catalog said of them. */
  readonly #givenBack = new Map<bigint, number>()
  readonly #forgotten = new Map<bigint, Forgotten>()
  /** Of the transport, before it serves. */
  notifier: KernelNotifier = KEEPS_NOTHING

  /** `statOf`: of a legacy file, `undefined` where the volume does not answer. */
  constructor(context: OverlayContext, statOf: (inode: Inode) => Stat | undefined) {
    this.#context = context
    this.#statOf = statOf
    context.activity.onGivenBack = (ino) => this.#givenBackNow(ino)
  }

  /** The kernel is about to be told these attributes. */
  tell(inode: Inode, attributes: Fingerprint): void {
    if (inode.authority !== 'legacy' || !isRegular(inode.mode)) return
    const now = fingerprintOf(attributes)
    this.#turn(performance.now())
    const before = this.#toldOf(inode.ino)
    const isDoubtful = before !== undefined && (before.isDoubtful || isOther(before, now))
    const reach = isDoubtful ? Math.max(before.reach, now.size) : now.size
    this.#told.set(inode.ino, { ...now, isDoubtful, reach })
    const wasGivenBack = this.#givenBack.delete(inode.ino)
    const forgotten = this.#forgotten.get(inode.ino)
    if (forgotten) forgotten.isUntold = false
    const activity = this.#context.activity.peek(inode.ino)
    if (!activity || activity.opens <= 0) return
    const { seen } = activity
    activity.seen = now
    const isUnseen = seen?.size === now.size && seen.mtimeNs === now.mtimeNs && seen.ctimeNs !== now.ctimeNs
    if (isUnseen || wasGivenBack) this.notifier.invalidateNode(inode.ino, 0, 0)
  }

  /** An open: whether the pages that the kernel has are of the file as it is. */
  opened(inode: Inode): boolean {
    const { activity } = this.#context
    const stat = inode.authority === 'legacy' ? this.#statOf(inode) : undefined
    if (stat) this.#expireUnlessTold(inode.ino, stat)
    const node = activity.of(inode.ino)
    const tag = node.changing > 0 ? undefined : tagOf(inode, stat)
    const isKept = tag !== undefined && node.cacheTag === tag
    node.cacheTag = tag
    node.seen = stat && fingerprintOf(stat)
    return isKept
  }

  /**
   * Performs a READ. Unless it is a direct one, its pages stay in the kernel's cache. Where there are fewer bytes than it asked for the
   * kernel cuts the size by itself (fuse_short_read() in fs/fuse/file.c), unless it was made to forget the size since: then it makes
   * zeros up to the old one. Such a READ fails, where the old one may be larger. The kernel asks again for each of the pages that it
   * read ahead, and then cuts; a second failure would end the application's read before the end of the file.
   * @throws FsError EIO, once for each offset
   */
  async reading(
    ino: bigint,
    { flags, offset, size }: { readonly flags: number; readonly offset: number; readonly size: number },
    read: () => Promise<Buffer>,
  ): Promise<Buffer> {
    if ((flags & constants.O_DIRECT) !== 0) return read()
    const node = this.#context.activity.peek(ino)
    if (node) node.pageReads += 1
    const times = this.#forgotten.get(ino)?.times ?? 0
    const bytes = await read()
    if (bytes.length < size) this.#requireCut(ino, { offset, size, end: offset + bytes.length }, times)
    // Who has read the new bytes of a file that was changed past the overlay is not told the old size after it.
    else if (!this.#isAsTold(ino)) this.#forget(ino)
    return bytes
  }

  #requireCut(
    ino: bigint,
    { offset, size, end }: { readonly offset: number; readonly size: number; readonly end: number },
    times: number,
  ): void {
    const forgotten = this.#forgotten.get(ino)
    if (!forgotten || (!forgotten.isUntold && forgotten.times === times)) return
    if (end >= Math.max(forgotten.reach, this.#toldOf(ino)?.reach ?? 0)) return
    const { failed, last } = forgotten
    if (last?.times === forgotten.times && offset >= last.offset && offset < last.end) return
    if (failed.has(offset) || failed.size === MOST_FAILED) return
    failed.add(offset)
    forgotten.last = { offset, end: offset + size, times: forgotten.times }
    throw new FsError('EIO', `inode ${ino} was cut short past the overlay while it was read`)
  }

  /** The kernel has made the file so long by itself, for what it has asked for here. */
  reaches(ino: bigint, end: number): void {
    for (const known of [this.#toldOf(ino), this.#forgotten.get(ino)])
      if (known && known.reach < end) known.reach = end
  }

  #isAsTold(ino: bigint): boolean {
    const inode = this.#context.catalog.get(ino)
    const told = this.#toldOf(ino)
    if (inode?.authority !== 'legacy' || !told) return true
    try {
      const stat = this.#statOf(inode)
      return !stat || this.#isTold(ino, stat)
    } catch (error) {
      // Gone meanwhile, which is no reason to keep what was read.
      if (!(error instanceof FsError)) throw error
      return true
    }
  }

  /** The kernel forgets the attributes of a file that is open. */
  #forget(ino: bigint): void {
    this.notifier.expireAttributes(ino)
    const told = this.#toldOf(ino)
    for (const generation of [this.#told, this.#toldBefore]) generation.delete(ino)
    if (this.notifier === KEEPS_NOTHING) return
    const before = this.#forgotten.get(ino)
    const { times = 0, failed = new Set<number>(), last } = before ?? {}
    // What the catalog told of a copy is not remembered.
    const known = this.#givenBack.has(ino) ? undefined : (told ?? (before?.isUntold ? before : undefined))
    const reach = known?.reach ?? Number.POSITIVE_INFINITY
    const atMs = performance.now()
    this.#forgotten.set(ino, { times: times + 1, isUntold: true, reach, failed, last, atMs })
  }

  /**
   * A write has landed and is not answered yet. Waits until pages that were read beside it are gone; they are locked as long as
   * their READs are under way, none of which waits for this write.
   */
  async written(ino: bigint, flags: number, offset: number, length: number): Promise<void> {
    this.reaches(ino, offset + length)
    if ((flags & constants.O_DIRECT) === 0) return
    const node = this.#context.activity.of(ino)
    const reads = node.pageReads
    if (reads === node.droppedReads) {
      this.notifier.expireAttributes(ino)
      return
    }
    await this.notifier.dropPages(ino, offset, length)
    node.droppedReads = reads
  }

  #toldOf(ino: bigint): Told | undefined {
    return this.#told.get(ino) ?? this.#toldBefore.get(ino)
  }

  #expireUnlessTold(ino: bigint, stat: Stat): void {
    if (!this.#isTold(ino, stat)) this.#forget(ino)
  }

  #isTold(ino: bigint, stat: Stat): boolean {
    const now = performance.now()
    this.#turn(now)
    const told = this.#toldOf(ino)
    if (this.#givenBack.has(ino)) return false
    if (told) return !told.isDoubtful && !isOther(told, stat)
    // What a predecessor told is not known.
    return now - this.#startedMs >= LEGACY_TTL_MS || !this.#context.takesOver
  }

  #turn(now: number): void {
    if (now - this.#turnedMs < TOLD_MS) return
    this.#toldBefore = this.#told
    this.#told = new Map()
    this.#turnedMs = now
    for (const [ino, { atMs }] of this.#forgotten)
      if (now - atMs > LONGEST_READ_MS) this.#forgotten.delete(ino)
    for (const [ino, until] of this.#givenBack) {
      if (until >= now) continue
      this.#givenBack.delete(ino)
      this.notifier.invalidateNode(ino, 0, 0)
    }
  }

  /**
   * The kernel forgets the attributes of the copy. At once where the file is open, for who reads on by the size of the copy would take
   * that for the end; such a file is held by the kernel until its RELEASE is answered (fuse_prepare_release() in fs/fuse/file.c). Its
   * pages go when the kernel is told the file's attributes: before that, it would drop the answer that has them. But not where somebody
   * may have them mapped and write to them.
   */
  #givenBackNow(ino: bigint): void {
    this.#givenBack.set(ino, performance.now() + CATALOG_TTL_MS)
    const { opens = 0, writers = 0 } = this.#context.activity.peek(ino) ?? {}
    if (opens > 0) this.#forget(ino)
    if (opens === 0 || writers > 0) this.notifier.invalidateNode(ino, 0, 0)
  }
}

const isOther = (told: Fingerprint, { size, ctimeNs }: Fingerprint): boolean =>
  told.size !== size || told.ctimeNs !== ctimeNs

/** Names a state of the content; the kernel may keep what it cached under the same name. */
function tagOf(inode: Inode, stat: Stat | undefined): string | undefined {
  const { mtimeNs, size, ctimeNs } = stat ?? inode
  if (inode.authority === 'legacy') {
    // What was changed within this tick of the volume's clock may be changed again under the same times.
    if (!stat || untilNextTick(stat.ctimeNs, Date.now()) > 0) return undefined
  }
  return `${inode.authority}.${mtimeNs}.${size}.${ctimeNs}`
}
