import { constants, ftruncateSync } from 'node:fs'
import { isDirectory, isRegular, isSymlink, S_IFMT } from '../../base/attributes.ts'
import { KeyedMutex, Semaphore } from '../../base/concurrency.ts'
import { FsError } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import { CHUNK_BYTES, sha256 } from '../../content/index.ts'
import {
  closeDescriptor,
  mknodAt,
  O_PATH,
  openAt,
  openInside,
  readlinkAt,
  renameAt,
  type Stat,
  statDescriptor,
  symlinkAt,
  unlinkAt,
} from '../../sys/index.ts'
import type { ProgressMeter } from '../progress.ts'
import { dress } from './attributes.ts'
import { hashOfChunk, readsAsZeros, settle, writeSparse } from './file-bytes.ts'
import { codeOf } from './findings.ts'
import { guardName, loosen } from './guards.ts'
import { removeDirectory } from './leftovers.ts'
import { LinkedFiles } from './linked-files.ts'
import { SourceError, type SourceTree, type TreeChunk, type TreeFile } from './tree.ts'
import { find, type WorkDirectory } from './work-directory.ts'

// Chunks of one file and of all together that are fetched and written at once; how many are written before they are synced, read
// back and forgotten. This bounds the memory (P6).
const CHUNKS_PER_FILE = 4
const CHUNKS_TOTAL = 16
const CHUNKS_PER_SYNC = 64

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NOATIME, O_NONBLOCK, O_RDONLY, O_RDWR } = constants
const SPECIAL = new Set([constants.S_IFIFO, constants.S_IFCHR, constants.S_IFBLK, constants.S_IFSOCK])

/** Hashes by chunk of what was written and not read back yet. */
type Sums = ReadonlyMap<number, Buffer>

/**
 * Writes one file that is no directory to DEST.
 *
 * Crash points: a file is written under a name of its own, with all that belongs to it, synced and read back; then it gets its
 * name. So under its name it is whole, and what is not whole has a name by which the next run knows it.
 */
export class EntryWriter {
  readonly #tree: SourceTree
  readonly #work: WorkDirectory
  readonly #meter: ProgressMeter
  readonly #signal: AbortSignal
  readonly #linked: LinkedFiles
  readonly #locks = new KeyedMutex<string>()
  readonly #slots = new Semaphore(CHUNKS_TOTAL)
  /** Of the files that are there, each file once, however many names it has. */
  bytes = 0

  constructor(tree: SourceTree, work: WorkDirectory, run: { meter: ProgressMeter; signal: AbortSignal }) {
    this.#tree = tree
    this.#work = work
    this.#meter = run.meter
    this.#signal = run.signal
    this.#linked = new LinkedFiles(work)
  }

  /**
   * Sees to it that the file is under the name; one that is there already and right stays. What DEST cannot hold of it, in words.
   * Nothing that others may have put there is replaced.
   * @throws SourceError, and what DEST answers, if it is not
   */
  async put(directory: number, name: Buffer, file: TreeFile): Promise<string[]> {
    if (file.attributes.nlink <= 1) {
      const lacks = await this.#placeAndCount(directory, name, file)
      return [...lacks, ...guardName(directory, name, file)]
    }
    return this.#locks.run(LinkedFiles.idOf(file), async () => {
      loosen(directory, name, find(directory, name))
      const joined = await this.#linked.join(file, directory, name, (existing) =>
        this.#requireReplaceable(existing, directory, name, file),
      )
      if (joined) return joined.lacks
      const lacks = await this.#placeAndCount(directory, name, file)
      return [...lacks, ...this.#linked.begin(file, directory, name)]
    })
  }

  /** All names of files with several are there now: those that are guarded get their flags. What DEST lacks, in words. */
  guardLinked(): string[] {
    return this.#linked.guardAll()
  }

  async #placeAndCount(directory: number, name: Buffer, file: TreeFile): Promise<string[]> {
    const lacks = await this.#place(directory, name, file)
    if (isRegular(file.attributes.mode)) this.bytes += file.attributes.size
    return lacks
  }

  async #place(directory: number, name: Buffer, file: TreeFile): Promise<string[]> {
    const existing = find(directory, name)
    loosen(directory, name, existing)
    if (existing && typeOf(existing) === typeOf(file.attributes)) {
      const kept = await this.#keep(directory, name, file)
      if (kept) return kept
    }
    if (existing) await this.#requireReplaceable(existing, directory, name, file)
    if (existing && isDirectory(existing.mode)) removeDirectory(directory, name)
    return this.#make(directory, name, file)
  }

  // ---- what an earlier run has written

  /** Undefined if what is there is not the file. */
  async #keep(directory: number, name: Buffer, file: TreeFile): Promise<string[] | undefined> {
    const isFile = isRegular(file.attributes.mode)
    const flags = isFile ? O_RDONLY | O_NOATIME | O_NONBLOCK : O_PATH
    const descriptor = openInside(directory, name, flags | O_NOFOLLOW)
    try {
      const stat = statDescriptor(descriptor)
      if (!this.#mayBe(stat, directory, name, file)) return undefined
      if (isFile) {
        // It may never have reached the medium.
        await settle(descriptor)
        if (!(await this.#isSame(descriptor, file))) return undefined
      } else if (!isSameThing(stat, directory, name, file)) return undefined
      const lacks = dress(descriptor, file)
      if (isFile) await settle(descriptor)
      return lacks
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** What may be of others is replaced by its like only: by another name of an equal file, for one. @throws FsError */
  async #requireReplaceable(stat: Stat, directory: number, name: Buffer, file: TreeFile): Promise<void> {
    if (!this.#work.mayBeOthers) return
    const isLike = typeOf(stat) === typeOf(file.attributes) && stat.size === file.attributes.size
    if (!isLike || !isRegular(stat.mode)) return this.#work.requireReplaceable()
    const descriptor = openInside(directory, name, O_RDONLY | O_NOATIME | O_NONBLOCK | O_NOFOLLOW)
    try {
      if (!(await this.#isSame(descriptor, file))) this.#work.requireReplaceable()
    } finally {
      closeDescriptor(descriptor)
    }
  }

  #mayBe(stat: Stat, directory: number, name: Buffer, { attributes }: TreeFile): boolean {
    if (typeOf(stat) !== typeOf(attributes) || (isRegular(stat.mode) && stat.size !== attributes.size))
      return false
    // Who could put a name of a file there that is not his must not be given that file.
    if (this.#work.mayBeOthers && stat.nlink > 1 && !hasOwner(stat, attributes)) return false
    // Names of one file that are two files now, or the other way round.
    return attributes.nlink <= 1 ? stat.nlink === 1 : this.#linked.claim(stat, directory, name)
  }

  async #isSame(descriptor: number, file: TreeFile): Promise<boolean> {
    const { size } = file.attributes
    let end = 0
    for await (const { index, hash } of this.#chunksOf(file)) {
      const start = index * CHUNK_BYTES
      const length = Math.min(CHUNK_BYTES, size - start)
      if (!(await readsAsZeros(descriptor, end, start))) return false
      const wanted = hash ?? sha256(await this.#read(file, index))
      if (!(await hashOfChunk(descriptor, index, length)).equals(wanted)) return false
      end = start + length
    }
    return readsAsZeros(descriptor, end, size)
  }

  // ---- what is written now

  async #make(directory: number, name: Buffer, file: TreeFile): Promise<string[]> {
    const temporary = this.#work.temporary()
    try {
      const lacks = isRegular(file.attributes.mode)
        ? await this.#makeRegular(directory, temporary, file)
        : makeOther(directory, temporary, file)
      faultPoint('migration.restore.written')
      renameAt(directory, temporary, directory, name, 0)
      faultPoint('migration.restore.placed')
      return lacks
    } catch (error) {
      unlinkIfThere(directory, temporary)
      throw error
    }
  }

  async #makeRegular(directory: number, temporary: Buffer, file: TreeFile): Promise<string[]> {
    const { size } = file.attributes
    if (!Number.isSafeInteger(size) || size < 0) throw new FsError('EFBIG', `a size of ${size} bytes`)
    const flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOATIME
    const descriptor = openAt(directory, temporary, flags, 0o600)
    try {
      ftruncateSync(descriptor, size)
      const last = await this.#fill(descriptor, file)
      const lacks = dress(descriptor, file)
      await settle(descriptor)
      await compare(descriptor, size, last)
      return lacks
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** Writes all data; what was not read back yet. */
  async #fill(descriptor: number, file: TreeFile): Promise<Sums> {
    const written = new Map<number, Buffer>()
    let window: TreeChunk[] = []
    for await (const chunk of this.#chunksOf(file)) {
      if (window.length === CHUNKS_PER_SYNC) {
        await this.#copy(descriptor, file, window, written)
        await settle(descriptor)
        await compare(descriptor, file.attributes.size, written)
        written.clear()
        window = []
      }
      window.push(chunk)
    }
    await this.#copy(descriptor, file, window, written)
    return written
  }

  async #copy(
    descriptor: number,
    file: TreeFile,
    chunks: readonly TreeChunk[],
    written: Map<number, Buffer>,
  ): Promise<void> {
    const queue = chunks.values()
    const work = async (): Promise<void> => {
      for (const { index, hash } of queue) {
        this.#signal.throwIfAborted()
        await this.#slots.run(async () => {
          const bytes = await this.#read(file, index)
          const sum = sha256(bytes)
          if (hash && !sum.equals(hash)) {
            throw new SourceError(
              'other',
              `the bytes from offset ${index * CHUNK_BYTES} on do not have their checksum`,
            )
          }
          await writeSparse(descriptor, bytes, index * CHUNK_BYTES)
          written.set(index, sum)
        })
      }
    }
    // All of them come to their end: nobody writes to a descriptor that is closed.
    const workers = Array.from({ length: Math.min(CHUNKS_PER_FILE, chunks.length) }, work)
    for (const ended of await Promise.allSettled(workers)) if (ended.status === 'rejected') throw ended.reason
  }

  // ---- the source

  /** Its chunks with data. Counts the file as done as far as they are asked for, holes included. */
  async *#chunksOf(file: TreeFile): AsyncGenerator<TreeChunk> {
    const { size } = file.attributes
    let counted = 0
    const countTo = (end: number): void => {
      this.#meter.bytes += end - counted
      counted = end
      this.#meter.tick()
    }
    let { chunks, next }: Awaited<ReturnType<SourceTree['chunks']>> = {
      chunks: file.chunks ?? [],
      next: undefined,
    }
    if (!file.chunks) ({ chunks, next } = await fromSource(() => this.#tree.chunks(file, 0)))
    for (;;) {
      this.#signal.throwIfAborted()
      for (const chunk of chunks) {
        countTo(Math.min(size, (chunk.index + 1) * CHUNK_BYTES))
        yield chunk
      }
      if (next === undefined) break
      const from: number = next
      ;({ chunks, next } = await fromSource(() => this.#tree.chunks(file, from)))
    }
    countTo(size)
  }

  #read(file: TreeFile, index: number): Promise<Buffer> {
    return fromSource(() => this.#tree.read(file, index, this.#signal))
  }
}

/** Runs a request of the source: whatever it fails with is no error of DEST. @throws SourceError */
export async function fromSource<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body()
  } catch (error) {
    throw SourceError.from(error)
  }
}

/** @throws FsError EIO where DEST reads otherwise than it was written */
async function compare(descriptor: number, size: number, sums: Sums): Promise<void> {
  for (const [index, sum] of sums) {
    const start = index * CHUNK_BYTES
    if ((await hashOfChunk(descriptor, index, Math.min(CHUNK_BYTES, size - start))).equals(sum)) continue
    throw new FsError('EIO', `what was written from offset ${start} on reads back otherwise`)
  }
}

const typeOf = ({ mode }: { readonly mode: number }): number => mode & S_IFMT

const hasOwner = (stat: Stat, { uid, gid }: TreeFile['attributes']): boolean =>
  stat.uid === uid && stat.gid === gid

/** Of a symlink, a device, a named pipe or a socket. */
function isSameThing(stat: Stat, directory: number, name: Buffer, { attributes, target }: TreeFile): boolean {
  if (isSymlink(stat.mode)) return target?.equals(readlinkAt(directory, name)) === true
  return stat.rdev === attributes.rdev
}

function makeOther(directory: number, temporary: Buffer, file: TreeFile): string[] {
  const { mode, rdev } = file.attributes
  const type = mode & S_IFMT
  if (isSymlink(mode)) symlinkAt(file.target ?? Buffer.alloc(0), directory, temporary)
  else if (SPECIAL.has(type) && Number.isSafeInteger(rdev) && rdev >= 0)
    mknodAt(directory, temporary, type | 0o600, rdev)
  else throw new FsError('EINVAL', `mode ${mode.toString(8)} and device ${rdev} are those of no file`)
  const descriptor = openInside(directory, temporary, O_PATH | O_NOFOLLOW)
  try {
    const stat = statDescriptor(descriptor)
    if (typeOf(stat) !== type || !isSameThing(stat, directory, temporary, file))
      throw new FsError('EIO', 'DEST made something else of it')
    return dress(descriptor, file)
  } finally {
    closeDescriptor(descriptor)
  }
}

function unlinkIfThere(directory: number, name: Buffer): void {
  try {
    unlinkAt(directory, name)
  } catch (error) {
    // Whatever it is, what went wrong before says more; the next run finds what is left by its name.
    if (codeOf(error) === undefined) throw error
  }
}
