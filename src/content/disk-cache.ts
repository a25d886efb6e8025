import { randomUUID } from 'node:crypto'
import { readdirSync, rmSync, statSync } from 'node:fs'
import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Semaphore } from '../base/concurrency.ts'
import { makePrivateDirectory } from '../base/private.ts'
import { sha256 } from './hash.ts'

// A disk that does not answer for so long is asked for nothing more until it has.
const PATIENCE_MS = 2000
// Of the thread pool: a call that hangs keeps a thread, and without one nobody is served.
const CALLS_AT_ONCE = 4
// With so many under way nothing more is kept: each has a chunk in memory until it is done.
const MOST_ASKED = 16

/** Where bytes may be found by their hash before the store is asked. */
export interface ChunkCache {
  get(hash: Buffer): Promise<Buffer | undefined>
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
      const { size, mtimeMs } = statSync(path)
      if (/^[0-9a-f]{64}$/.test(name)) found.push({ name, size, used: mtimeMs })
      else rmSync(path, { force: true })
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
    const size = this.#sizes.get(name)
    if (size === undefined) return undefined
    this.#sizes.delete(name)
    this.#sizes.set(name, size)
    const path = join(this.#directory, name)
    const read = await this.#ask(() => readFile(path).catch(() => Buffer.alloc(0)))
    if (!read) return undefined
    if (sha256(read).equals(hash)) {
      const now = new Date()
      void this.#ask(() => utimes(path, now, now))
      return read
    }
    this.#forget(name)
    void this.#ask(() => rm(path, { force: true }))
    return undefined
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
  }

  #evict(): void {
    for (const name of this.#sizes.keys()) {
      if (this.#bytes <= this.#limit) return
      this.#forget(name)
      void this.#ask(() => rm(join(this.#directory, name), { force: true }))
    }
  }
}
