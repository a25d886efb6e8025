import { S_IFDIR, S_IFLNK, S_IFREG } from '../../../src/base/attributes.ts'
import { CHUNK_BYTES, chunkCount, sha256 } from '../../../src/content/index.ts'
import {
  type FileRef,
  type FileState,
  SourceError,
  type SourceTree,
  type TreeEntry,
  type TreeFile,
  type TreePage,
} from '../../../src/migration/index.ts'

/** Attributes that a test cares about; the others are those of a plain file of root. */
type Some = Partial<Omit<TreeFile['attributes'], 'ino'>> & {
  readonly xattrs?: Buffer
  readonly generation?: number
}

export interface MemoryFile {
  readonly ref: FileRef
  file: TreeFile
  /** Bytes by chunk; what is not there is a hole. */
  readonly chunks: Map<number, Buffer>
  readonly entries: Array<readonly [name: Buffer, of: MemoryFile | string]>
}

const START_NS = 1_700_000_000_123_456_789n

/** A tree that exists only here, for what no file system would hold: any name, any number, any content. */
export class MemoryTree implements SourceTree {
  readonly top: MemoryFile
  /** Entries in one page of a listing. */
  pageEntries = 3
  /** Called before every request; what it throws is the answer. */
  onAsk: (op: string, name?: string) => void | Promise<void> = () => undefined
  readonly #files = new Map<bigint, MemoryFile>()

  constructor(attributes: Some = {}) {
    this.top = this.directory(attributes)
  }

  directory(attributes: Some = {}): MemoryFile {
    return this.#add({ mode: S_IFDIR | 0o755, ...attributes }, new Map())
  }

  regular(bytes: Buffer | string, attributes: Some = {}): MemoryFile {
    const content = Buffer.from(bytes)
    const chunks = new Map<number, Buffer>()
    for (let index = 0; index < chunkCount(content.length); index += 1) {
      chunks.set(index, content.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES))
    }
    return this.#add({ mode: S_IFREG | 0o644, size: content.length, ...attributes }, chunks)
  }

  /** A file of that size with these chunks, and holes. */
  sparse(size: number, chunks: ReadonlyMap<number, Buffer>, attributes: Some = {}): MemoryFile {
    return this.#add({ mode: S_IFREG | 0o600, ...attributes, size }, new Map(chunks))
  }

  symlink(target: Buffer | string, attributes: Some = {}): MemoryFile {
    const made = this.#add({ mode: S_IFLNK | 0o777, ...attributes }, new Map())
    made.file = { ...made.file, target: Buffer.from(target) }
    return made
  }

  /** A device, a named pipe, or what no file is. */
  special(attributes: Some): MemoryFile {
    return this.#add(attributes, new Map())
  }

  /** A text in the place of a file is why that cannot be looked at. */
  put(name: Buffer | string, of: MemoryFile | string, directory: MemoryFile = this.top): void {
    directory.entries.push([typeof name === 'string' ? Buffer.from(name) : name, of])
  }

  #add({ xattrs, generation = 1, ...attributes }: Some, chunks: Map<number, Buffer>): MemoryFile {
    const ino = BigInt(this.#files.size + 1)
    const ref = { ino, generation }
    const times = { atimeNs: START_NS, mtimeNs: START_NS + ino, ctimeNs: START_NS }
    const file: TreeFile = {
      ...ref,
      attributes: {
        ...{ ino, mode: 0, nlink: 1, uid: 0, gid: 0, rdev: 0, size: 0, blocks: 0, blksize: 4096 },
        ...times,
        ...attributes,
      },
      xattrs,
      target: undefined,
      stamp: `${ino}.0`,
    }
    const made = { ref, file, chunks, entries: [] }
    this.#files.set(ino, made)
    return made
  }

  // ---- SourceTree

  async totals(): Promise<{ files: number; bytes: number }> {
    await this.onAsk('totals')
    return { files: this.#files.size, bytes: 0 }
  }

  async root(): Promise<TreeFile> {
    await this.onAsk('root')
    return this.top.file
  }

  async list(directory: FileRef, from = '0'): Promise<TreePage> {
    await this.onAsk('list')
    const { entries } = this.#get(directory)
    const end = Number(from) + this.pageEntries
    return {
      entries: entries.slice(Number(from), end).map(entryOf),
      next: end < entries.length ? String(end) : undefined,
    }
  }

  async look(directory: FileRef, name: Buffer): Promise<TreeEntry | undefined> {
    await this.onAsk('look', name.toString('latin1'))
    const found = this.#get(directory).entries.find(([known]) => known.equals(name))
    return found && entryOf(found)
  }

  async chunks(file: FileState, from: number): ReturnType<SourceTree['chunks']> {
    await this.onAsk('chunks')
    const indexes = [...this.#get(file).chunks.keys()].filter((index) => index >= from).sort((a, b) => a - b)
    const some = indexes.slice(0, 5)
    const chunks = some.map((index) => ({ index, hash: this.#hashOf(file, index) }))
    return { chunks, next: indexes[some.length] }
  }

  async read(file: FileState, index: number): Promise<Buffer> {
    const { file: now, chunks } = this.#get(file)
    await this.onAsk('read', now.stamp)
    if (now.stamp !== file.stamp) throw new SourceError('changed', 'it was changed while it was read')
    const length = Math.min(CHUNK_BYTES, now.attributes.size - index * CHUNK_BYTES)
    const bytes = chunks.get(index) ?? Buffer.alloc(0)
    return Buffer.concat([bytes], length)
  }

  async stamp(file: FileRef): Promise<string | undefined> {
    await this.onAsk('stamp')
    return this.#get(file).file.stamp
  }

  async ping(): Promise<void> {
    await this.onAsk('ping')
  }

  #get({ ino }: FileRef): MemoryFile {
    const found = this.#files.get(ino)
    if (!found) throw new SourceError('changed', 'it is not there any more')
    return found
  }

  /** Known for every other chunk, as where some of a file is not in the store yet. */
  #hashOf(file: FileState, index: number): Buffer | undefined {
    const bytes = this.#get(file).chunks.get(index)
    if (!bytes || index % 2 === 1) return undefined
    const length = Math.min(CHUNK_BYTES, this.#get(file).file.attributes.size - index * CHUNK_BYTES)
    return sha256(Buffer.concat([bytes], length))
  }
}

function entryOf([name, of]: readonly [Buffer, MemoryFile | string]): TreeEntry {
  return typeof of === 'string' ? { name, reason: of } : { name, file: of.file }
}
