import { randomUUID } from 'node:crypto'
import { close, lstatSync, open, read, readdirSync } from 'node:fs'
import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Semaphore } from '../base/concurrency.ts'
import { removePlace } from '../base/plain-file.ts'
import { makePrivateDirectory } from '../base/private.ts'
import { readCached } from '../sys/index.ts'
import { BlockSums } from './block-sums.ts'
import { sha256 } from './hash.ts'

// A disk that does not answer for so long is asked for nothing more until it has.
const PATIENCE_MS = 2000
// Of the thread pool: a call that hangs keeps a thread, and without one nobody is served.
const CALLS_AT_ONCE = 4
// With so many under way nothing more is kept: each has a chunk in memory until it is done.
const MOST_ASKED = 16
// Files that parts were read of last stay open.
const MOST_OPEN = 64

const openFile = promisify(open)
const readFrom = promisify(read)

/** Where bytes may be found by their hash before the store is asked. */
export interface ChunkCache {
  get(hash: Buffer): Promise<Buffer | undefined>
  /**
   * The part [start, end) of what `get` gave before, in this process, read and checked by itself. `undefined` where it has to be
   * asked for as a whole.
   */
  part(hash: Buffer, start: number, end: number): Promise<Buffer | undefined>
  put(hash: Buffer, bytes: Buffer): Promise<void>
}

/** The same files for whoever only looks: nothing is kept, nothing goes. */
export class KeptCache implements ChunkCache {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  async get(hash: Buffer): Promise<Buffer | undefined> {
    const bytes = await readFile(join(this.#directory, hash.toString('hex'))).catch(() => undefined)
    return bytes && sha256(bytes).equals(hash) ? bytes : undefined
  }

  async part(): Promise<undefined> {}

  async put(): Promise<void> {}
}

/**
 * Chunks that were fetched from the store, kept on disk so that they can be read again while the store is away. A file is
 * named by the SHA-256 of what is in it and is checked against it when read: a damaged or torn one is no hit. Nobody needs it, so
 * while its disk does not answer nothing is found in it and nothing kept (P6).
 */
export class DiskCache implements ChunkCache {
  readonly #directory: string
  readonly #limit: number
  /** Sizes by name, least recently used first. */
  readonly #sizes = new Map<string, number>()
  /** Of those that this process has found right as a whole. */
  readonly #sums = new Map<string, BlockSums>()
  /** Descriptors by name, longest open first. */
  readonly #open = new Map<string, number>()
  #bytes = 0
  readonly #patienceMs: number
  readonly #calls = new Semaphore(CALLS_AT_ONCE)
  /** Calls that nobody waits for any more. */
  #late = 0
  #asked = 0

  /** `limit` in bytes; 0 keeps nothing. */
  constructor(directory: string, limit: number, patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs
    this.#directory = directory
    this.#limit = limit
    makePrivateDirectory(directory)
    const found: Array<{ name: string; size: number; used: number }> = []
    for (const name of readdirSync(directory)) {
      const path = join(directory, name)
      const stat = lstatSync(path)
      if (/^[0-9a-f]{64}$/.test(name) && stat.isFile())
        found.push({ name, size: stat.size, used: stat.mtimeMs })
      else removePlace(path)
    }
    for (const { name, size } of found.sort((a, b) => a.used - b.used)) this.#count(name, size)
    this.#evict()
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The bytes with this hash, if they are here and whole. */
  async get(hash: Buffer): Promise<Buffer | undefined> {
    const name = hash.toString('hex')
    if (!this.#use(name)) return undefined
    const path = join(this.#directory, name)
    const read = await this.#ask(() => readFile(path).catch(() => Buffer.alloc(0)))
    if (!read) return undefined
    if (sha256(read).equals(hash)) {
      const now = new Date()
      void this.#ask(() => utimes(path, now, now))
      if (this.#sizes.has(name) && !this.#sums.has(name)) this.#sums.set(name, new BlockSums(read))
      return read
    }
    this.#remove(name)
    return undefined
  }

  async part(hash: Buffer, start: number, end: number): Promise<Buffer | undefined> {
    const name = hash.toString('hex')
    const sums = this.#sums.get(name)
    if (!sums || !this.#use(name)) return undefined
    const { from, to } = sums.around(start, end)
    const blocks = Buffer.allocUnsafe(to - from)
    const descriptor = this.#open.get(name)
    if (descriptor === undefined || !readCached(descriptor, blocks, from).isAll) {
      const found = await this.#ask(() => this.#readBlocks(name, blocks, from))
      if (!found) return undefined
    }
    // Where the file is shorter by now, what was in the buffer before is left.
    if (sums.match(blocks, from)) return blocks.subarray(start - from, end - from)
    this.#remove(name)
    return undefined
  }

  async #readBlocks(name: string, blocks: Buffer, from: number): Promise<true> {
    const descriptor = await openFile(join(this.#directory, name), 'r')
    try {
      await readFrom(descriptor, blocks, 0, blocks.length, from)
    } catch (error) {
      close(descriptor, () => undefined)
      throw error
    }
    this.#letGo(name)
    if (this.#sums.has(name)) this.#open.set(name, descriptor)
    else close(descriptor, () => undefined)
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= MOST_OPEN) break
      this.#letGo(oldest)
    }
    return true
  }

  #letGo(name: string): void {
    const descriptor = this.#open.get(name)
    if (descriptor === undefined) return
    this.#open.delete(name)
    close(descriptor, () => undefined)
  }

  /** It is the one used last; false if it is not here. */
  #use(name: string): boolean {
    const size = this.#sizes.get(name)
    if (size === undefined) return false
    this.#sizes.delete(name)
    this.#sizes.set(name, size)
    return true
  }

  #remove(name: string): void {
    this.#forget(name)
    void this.#ask(() => rm(join(this.#directory, name), { force: true }))
  }

  /** Keeps the bytes if there is room to be had. A full or failing disk only means that nothing is cached. */
  async put(hash: Buffer, bytes: Buffer): Promise<void> {
    const name = hash.toString('hex')
    if (bytes.length > this.#limit || this.#sizes.has(name) || this.#asked >= MOST_ASKED) return
    const path = join(this.#directory, name)
    const temporary = `${path}.${randomUUID()}`
    await this.#ask(async () => {
      try {
        await writeFile(temporary, bytes, { mode: 0o600 })
        await rename(temporary, path)
        this.#count(name, bytes.length)
        this.#evict()
      } catch {
        await rm(temporary, { force: true })
      }
    })
  }

  /** Makes calls on the disk; undefined if they fail, or if it does not answer. */
  async #ask<T>(calls: () => Promise<T>): Promise<T | undefined> {
    if (this.#late > 0) return undefined
    this.#asked += 1
    const answer = this.#calls
      .run(async () => (this.#late > 0 ? undefined : await calls()))
      .catch(() => undefined)
      .finally(() => {
        this.#asked -= 1
      })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => {
        this.#late += 1
        void answer.finally(() => {
          this.#late -= 1
        })
        resolve(undefined)
      }, this.#patienceMs)
    })
    try {
      return await Promise.race([answer, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #count(name: string, size: number): void {
    this.#forget(name)
    this.#sizes.set(name, size)
    this.#bytes += size
  }

  #forget(name: string): void {
    this.#bytes -= this.#sizes.get(name) ?? 0
    this.#sizes.delete(name)
    this.#sums.delete(name)
    this.#letGo(name)
  }

  #evict(): void {
    for (const name of this.#sizes.keys()) {
      if (this.#bytes <= this.#limit) return
      this.#remove(name)
    }
  }
}
