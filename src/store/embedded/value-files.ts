import { close, fdatasync, fsync, mkdir, open, read, write } from 'node:fs'
import { readdir, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { SharedJob } from '../../base/concurrency.ts'
import { isSystemError } from '../../base/errors.ts'
import { O_READ } from '../../base/plain-file.ts'

const openFile = promisify(open)
const writeFile = promisify(write)
const readFile = promisify(read)
const syncData = promisify(fdatasync)
const syncAll = promisify(fsync)
const closeFile = promisify(close)
const makeDirectory = promisify(mkdir)

// Files per directory, and directories per upper directory. Ids grow, so the files that are written together lie in
// one directory and share its sync, and the files of a range of ids are listed without a walk over all.
const FANOUT = 1024

// Buckets whose directory is known to exist; only the newest are written to.
const KNOWN_BUCKETS = 16

// Of pread(2), where something else lies in the place of a file.
const NO_FILE: ReadonlySet<string> = new Set(['EISDIR', 'ESPIPE'])

interface Bucket {
  readonly ready: Promise<void>
  readonly sync: SharedJob
}

/**
 * Values too large for the index, each in a file that is written once under an id that is never used again. The index
 * row is what makes a file count, so there is nothing to rename: a file without a row is refuse.
 */
export class ValueFiles {
  readonly #root: string
  readonly #buckets = new Map<number, Bucket>()

  constructor(root: string) {
    this.#root = root
  }

  pathOf(id: number): string {
    return join(this.#pathOfBucket(Math.floor(id / FANOUT)), id.toString(16))
  }

  /** Resolves once the file and its name are on the medium. After a failure a part of it may be left: remove it. */
  async write(id: number, value: Buffer): Promise<void> {
    const bucket = this.#bucket(Math.floor(id / FANOUT))
    await bucket.ready
    await writeNewFile(this.pathOf(id), value)
    await bucket.sync.run()
  }

  /** The first `length` bytes of a file, fewer if it is shorter; `undefined` if there is no such file. */
  async read(id: number, length: number): Promise<Buffer | undefined> {
    let descriptor: number
    try {
      descriptor = await openFile(this.pathOf(id), O_READ)
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
    try {
      const value = Buffer.allocUnsafeSlow(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await readFile(descriptor, value, done, length - done, done)
        if (bytesRead === 0) return value.subarray(0, done)
        done += bytesRead
      }
      return value
    } catch (error) {
      if (isSystemError(error) && NO_FILE.has(error.code ?? '')) return undefined
      throw error
    } finally {
      await closeFile(descriptor)
    }
  }

  /** Removes a file; one that is not there is removed already. */
  async remove(id: number): Promise<void> {
    try {
      await unlink(this.pathOf(id))
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }

  /** Removes the directory of `id` if it is empty. Only for ids that no later file can share a directory with. */
  async prune(id: number, lowestInUse: number): Promise<void> {
    const bucket = Math.floor(id / FANOUT)
    const current = Math.floor(lowestInUse / FANOUT)
    if (bucket >= current) return
    try {
      await rmdir(this.#pathOfBucket(bucket))
      if (Math.floor(bucket / FANOUT) < Math.floor(current / FANOUT)) {
        await rmdir(join(this.#root, Math.floor(bucket / FANOUT).toString(16)))
      }
    } catch {
      // Not empty, or gone already: either is as it should be.
    }
  }

  /** The ids from `from` up to, not including, `to` that have a file. */
  async list(from: number, to: number): Promise<number[]> {
    const found: number[] = []
    for (let bucket = Math.floor(from / FANOUT); bucket * FANOUT < to; bucket += 1) {
      for (const name of await namesIn(this.#pathOfBucket(bucket))) {
        const id = Number.parseInt(name, 16)
        const ours = id.toString(16) === name && Math.floor(id / FANOUT) === bucket
        if (ours && id >= from && id < to) found.push(id)
      }
    }
    return found
  }

  /** A file with the id `from` or a higher one, if there is any. Only directories that may have one are looked at. */
  async anyFrom(from: number): Promise<string | undefined> {
    const lowest = Math.floor(from / FANOUT)
    const inHex = (names: readonly string[]): number[] =>
      names.map((name) => Number.parseInt(name, 16)).filter((number, at) => number.toString(16) === names[at])
    const uppers = inHex(await namesIn(this.#root)).filter((upper) => upper >= Math.floor(lowest / FANOUT))
    for (const upper of uppers) {
      for (const lower of inHex(await namesIn(join(this.#root, upper.toString(16))))) {
        const bucket = upper * FANOUT + lower
        if (lower >= FANOUT || bucket < lowest) continue
        const [id] = await this.list(Math.max(from, bucket * FANOUT), (bucket + 1) * FANOUT)
        if (id !== undefined) return this.pathOf(id)
      }
    }
    return undefined
  }

  #pathOfBucket(bucket: number): string {
    return join(this.#root, Math.floor(bucket / FANOUT).toString(16), (bucket % FANOUT).toString(16))
  }

  #bucket(number: number): Bucket {
    const known = this.#buckets.get(number)
    if (known) return known
    const path = this.#pathOfBucket(number)
    const bucket: Bucket = { ready: this.#create(path), sync: new SharedJob(() => syncDirectory(path)) }
    this.#buckets.set(number, bucket)
    // A directory that could not be made is tried again by the next write.
    bucket.ready.catch(() => this.#buckets.delete(number))
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= KNOWN_BUCKETS) break
      this.#buckets.delete(oldest)
    }
    return bucket
  }

  async #create(path: string): Promise<void> {
    await makeDirectory(path, { recursive: true, mode: 0o700 })
    await syncDirectory(join(path, '..'))
    await syncDirectory(this.#root)
  }
}

/** What is in a new file is on the medium when it resolves; its name may not be. @throws the error of open(2), EEXIST among them */
export async function writeNewFile(path: string, value: Buffer): Promise<void> {
  const descriptor = await openFile(path, 'wx', 0o600)
  try {
    for (let done = 0; done < value.length; ) {
      done += (await writeFile(descriptor, value, done, value.length - done, done)).bytesWritten
    }
    await syncData(descriptor)
  } finally {
    await closeFile(descriptor)
  }
}

/** Makes the names in a directory safe against power loss. */
export async function syncDirectory(path: string): Promise<void> {
  const descriptor = await openFile(path, 'r')
  try {
    await syncAll(descriptor)
  } finally {
    await closeFile(descriptor)
  }
}

/** None where there is no such directory, or something else in its place. */
async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (isMissing(error) || (isSystemError(error) && error.code === 'ENOTDIR')) return []
    throw error
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
