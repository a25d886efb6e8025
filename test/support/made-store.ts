import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { S_IFDIR, S_IFREG } from '../../src/base/attributes.ts'
import { fileId, shardOf } from '../../src/catalog/index.ts'
import {
  CHUNK_BYTES,
  type DirectoryHeader,
  encodeFileObject,
  encodeHeader,
  encodeShard,
  headerKey,
  NAMESPACE_FORMAT,
  type RecordedEntry,
  shardKey,
} from '../../src/content/index.ts'
import type { KeySpace, KeyValueStore } from '../../src/store/contract.ts'
import { MemoryStore } from '../../src/store/memory/store.ts'

/** Which part of a record an earlier ferryfs had a name in; any other way to share them out would do. */
export const shardOfName = (name: Buffer, shards: number): number => shardOf(crc32(name) & 0xffff, shards)

interface Numbered {
  readonly ino: bigint
  readonly generation?: number
}

/** Writes what a test wants a store to have, with checksums that hold. */
export class StoreMaker {
  readonly #store: KeyValueStore
  #version = 0

  constructor(store: KeyValueStore) {
    this.#store = store
  }

  /** An object with a checksum that holds, of the next version. */
  async put(
    space: KeySpace,
    key: string,
    value: Buffer,
    metadata: Record<string, string> = {},
  ): Promise<void> {
    this.#version += 1
    const version = { epoch: 1, version: this.#version }
    const sum = { 'ferry-sha256': hash('sha256', value) }
    const contentType = 'application/octet-stream'
    await this.#store.put(space, key, { value, metadata: { ...metadata, ...sum }, version, contentType })
  }

  /** Somebody has the namespace, so that there is one. */
  async lease(): Promise<void> {
    const since = new Date(0).toISOString()
    const record = {
      format: NAMESPACE_FORMAT,
      chunkBytes: CHUNK_BYTES,
      owner: 'made',
      host: 'made',
      epoch: 1,
      since,
    }
    await this.#store.put('meta', 'namespace', {
      value: Buffer.from(JSON.stringify(record)),
      version: { epoch: 1, version: 0 },
      contentType: 'application/json',
      metadata: {},
    })
  }

  /** A directory, in one shard unless its header says more. A newer one than all that was made before. */
  async directory(
    { ino, generation = Number(ino) }: Numbered,
    entries: readonly RecordedEntry[],
    { leaving = [], ...header }: Partial<DirectoryHeader> & { leaving?: readonly RecordedEntry[] } = {},
  ): Promise<void> {
    const id = fileId({ ino, generation })
    const shards = header.shards ?? 1
    const inShard = (shard: number, { name }: RecordedEntry): boolean => shardOfName(name, shards) === shard
    for (let shard = 0; shard < shards; shard += 1) {
      const key = shardKey(id, 1, shard)
      const content = {
        entries: entries.filter((entry) => inShard(shard, entry)),
        leaving: leaving.filter((entry) => inShard(shard, entry)),
      }
      await this.put('dirs', key, encodeShard(key, content).value)
    }
    await this.header(id, { ino, generation, ...header })
  }

  async header(id: string, header: Pick<DirectoryHeader, 'ino' | 'generation'> & Partial<DirectoryHeader>) {
    const whole = {
      mode: S_IFDIR | 0o755,
      uid: 0,
      gid: 0,
      nlink: 2,
      atimeNs: 1n,
      mtimeNs: 1n,
      ctimeNs: 1n,
      xattrs: undefined,
      recordGeneration: 1,
      shards: 1,
      ...header,
    }
    await this.put('dirs', headerKey(id), encodeHeader(whole).value)
  }

  async root(
    entries: readonly RecordedEntry[],
    more: { leaving?: readonly RecordedEntry[] } = {},
  ): Promise<void> {
    await this.directory({ ino: 1n, generation: 0 }, entries, more)
  }

  /** A small file, its text under `key`; `forged`: what its metadata says otherwise. */
  async file(file: Numbered, key: string, text: string, forged: Record<string, string> = {}): Promise<void> {
    const { ino, generation = Number(ino) } = file
    const bytes = Buffer.from(text)
    const { value, metadata } = encodeFileObject(
      {
        ino,
        generation,
        xattrs: undefined,
        attributes: {
          ino,
          mode: S_IFREG | 0o644,
          nlink: 1,
          uid: 0,
          gid: 0,
          rdev: 0,
          size: bytes.length,
          blocks: 8,
          blksize: 4096,
          atimeNs: 1n,
          mtimeNs: 1n,
          ctimeNs: 1n,
        },
      },
      { kind: 'inline', bytes },
    )
    await this.put('files', key, value, { ...metadata, ...forged })
  }
}

/** The same for a store in memory. */
export class MadeStore extends StoreMaker {
  readonly memory: MemoryStore

  constructor() {
    const memory = new MemoryStore()
    super(memory)
    this.memory = memory
  }
}

/** A name for a directory, or with a key for a file. */
export function named(
  name: string,
  ino: bigint,
  key?: string,
  more: Partial<RecordedEntry> = {},
): RecordedEntry {
  return { name: Buffer.from(name, 'latin1'), ino, generation: Number(ino), key, ...more }
}
