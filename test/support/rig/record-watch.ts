import { type Catalog, fileId } from '../../../src/catalog/index.ts'
import {
  decodeFileObject,
  decodeHeader,
  decodeShard,
  headerKey,
  type RecordedEntry,
  shardKey,
} from '../../../src/content/index.ts'
import type { KeySpace, StoredObject } from '../../../src/store/contract.ts'
import type { MemoryStore } from '../../../src/store/memory/store.ts'

const idOf = fileId

/**
 * Looks at the store after each write that reaches it, with the eyes of a rebuild that begins just then. Everything that a record
 * led to once is led to for as long as the catalog has it, and no record leads to an object that is not there.
 */
export class RecordWatch {
  readonly violations: string[] = []
  looks = 0
  readonly #catalog: () => Catalog | undefined
  readonly #objects = new Map<string, StoredObject>()
  /** Ids of what records have led to. */
  #reached = new Set<string>()
  #last = ''

  constructor(memory: MemoryStore, catalog: () => Catalog | undefined) {
    this.#catalog = catalog
    const put = memory.put.bind(memory)
    const remove = memory.delete.bind(memory)
    memory.put = async (space, key, object, options) => {
      await put(space, key, object, options)
      this.#changed(space, key, object)
    }
    memory.delete = async (space, key, version, options) => {
      await remove(space, key, version, options)
      this.#changed(space, key, undefined)
    }
  }

  #changed(space: KeySpace, key: string, object: StoredObject | undefined): void {
    if (space === 'meta') return
    this.#last = `${object ? 'put' : 'delete'} ${space} ${key}`
    if (object) this.#objects.set(`${space} ${key}`, object)
    else this.#objects.delete(`${space} ${key}`)
    if (space !== 'chunks') this.look()
  }

  /** Compares what the records lead to now with what they led to before. */
  look(): void {
    const catalog = this.#catalog()
    if (!catalog) return
    this.looks += 1
    const now = this.#walk()
    for (const id of this.#reached) {
      if (now.has(id)) continue
      const inode = catalog.get(BigInt(`0x${id.split('-')[0]}`))
      const lives =
        inode && idOf(inode) === id && !inode.orphan && catalog.links.first(inode.ino) !== undefined
      if (lives) this.#violated(`no record leads to ${catalog.links.pathOf(inode.ino)} (${id})`)
    }
    this.#reached = now
  }

  #walk(): Set<string> {
    const found = new Set<string>()
    const root = '1-0'
    if (!this.#objects.has(`dirs ${headerKey(root)}`)) return found
    const queue = [root]
    found.add(root)
    for (const id of queue) {
      for (const entry of this.#entriesOf(id)) {
        const below = idOf(entry)
        if (entry.key !== undefined) this.#checkFile(id, entry, entry.key)
        if (found.has(below)) continue
        found.add(below)
        if (entry.key === undefined) queue.push(below)
      }
    }
    return found
  }

  #entriesOf(id: string): RecordedEntry[] {
    const header = this.#objects.get(`dirs ${headerKey(id)}`)
    if (!header) {
      this.#violated(`a record names directory ${id}, which has no header`)
      return []
    }
    const { recordGeneration, shards } = decodeHeader(id, header)
    const entries: RecordedEntry[] = []
    for (let shard = 0; shard < shards; shard += 1) {
      const key = shardKey(id, recordGeneration, shard)
      const object = this.#objects.get(`dirs ${key}`)
      if (!object) {
        this.#violated(`the header of directory ${id} names shard ${key}, which is not there`)
        continue
      }
      const { entries: present, leaving } = decodeShard(key, object)
      entries.push(...present, ...leaving)
    }
    return entries
  }

  #checkFile(directory: string, entry: RecordedEntry, key: string): void {
    const object = this.#objects.get(`files ${key}`)
    if (!object) {
      this.#violated(`directory ${directory} names ${entry.name}, whose object ${key} is not there`)
      return
    }
    const record = decodeFileObject(key, object)
    if (idOf(record) !== idOf(entry))
      this.#violated(
        `directory ${directory} names ${entry.name} as ${idOf(entry)}, object ${key} is of ${idOf(record)}`,
      )
  }

  #violated(what: string): void {
    if (this.violations.length < 20) this.violations.push(`after ${this.#last}: ${what}`)
  }
}
