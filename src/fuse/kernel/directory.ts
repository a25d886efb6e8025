import type { DirectoryEntry, DirectorySink, Entry } from '../operations.ts'
import { ENTRY_OUT_SIZE, putEntry } from './answer.ts'

/** Bytes of `struct fuse_dirent` in front of the name. */
const DIRENT_SIZE = 24

const aligned = (size: number): number => (size + 7) & ~7

/** Packs the entries of one READDIR or READDIRPLUS answer of at most `size` bytes. */
export class DirectoryPacker implements DirectorySink {
  readonly plus: boolean
  readonly #bytes: Buffer
  readonly #view: DataView
  #length = 0

  constructor(size: number, plus: boolean) {
    this.plus = plus
    const memory = new ArrayBuffer(size)
    this.#bytes = Buffer.from(memory)
    this.#view = new DataView(memory)
  }

  #sizeOf(nameBytes: number): number {
    return aligned((this.plus ? ENTRY_OUT_SIZE : 0) + DIRENT_SIZE + nameBytes)
  }

  hasRoom(nameBytes: number): boolean {
    return this.#length + this.#sizeOf(nameBytes) <= this.#bytes.length
  }

  add(item: DirectoryEntry, entry?: Entry): void {
    if (!this.hasRoom(item.name.length))
      throw new RangeError('a directory entry was added without room for it')
    let at = this.#length
    this.#length += this.#sizeOf(item.name.length)
    if (this.plus) {
      // Without an entry node 0 stays there: the kernel lists the name and looks it up when it is asked for.
      if (entry) putEntry(this.#view, at, entry)
      at += ENTRY_OUT_SIZE
    }
    this.#view.setBigUint64(at, item.ino, true)
    this.#view.setBigUint64(at + 8, item.cookie, true)
    this.#view.setUint32(at + 16, item.name.length, true)
    this.#view.setUint32(at + 20, item.type, true)
    item.name.copy(this.#bytes, at + DIRENT_SIZE)
  }

  clear(): void {
    this.#bytes.fill(0, 0, this.#length)
    this.#length = 0
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  /** The nodes that this answer counts as looked up, once each time. */
  lookedUp(): bigint[] {
    const nodes: bigint[] = []
    if (!this.plus) return nodes
    for (let at = 0; at < this.#length; ) {
      const node = this.#view.getBigUint64(at, true)
      if (node !== 0n) nodes.push(node)
      at += this.#sizeOf(this.#view.getUint32(at + ENTRY_OUT_SIZE + 16, true))
    }
    return nodes
  }
}
