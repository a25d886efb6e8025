import { closeSync, openSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { FsError, UsageError } from '../base/errors.ts'
import type { Catalog } from '../catalog/index.ts'
import { formatBytes } from '../config/units.ts'
import type { Log } from '../observe/log.ts'
import { FALLOC_FL_KEEP_SIZE, fallocate, spaceOfPath } from '../sys/index.ts'
import { CATALOG_FILE } from './state-dir.ts'

const RESERVE_FILE = 'reserve'

/** What is kept of a volume with room to spare: enough for the rows of some ten thousand files, in the catalog and its log. */
const MOST_BYTES = 16 * 1024 * 1024
// A volume with less free is too full to begin on.
const LEAST_FREE_BYTES = 1024 * 1024
// Of what is free this part is kept for each of the catalog and its log.
const PART = 8
// linux/magic.h; ext4_calculate_resv_clusters() of the kernel.
const EXT4 = 0xef53n
const EXT4_KEPT_BLOCKS = 4096
// It is given out in so many steps; the largest takes a millisecond.
const STEPS = 64
// With as much free, nothing has to be set aside yet: a volume takes longer to fill up than the reserve.
const ENOUGH_BYTES = 4 * 1024 ** 3
// What a start writes beside the catalog.
const START_BYTES = 256 * 1024
const LEAST_FILE_BYTES = 64 * 1024
// In the catalog: how much has been kept once.
const NOTE = 'reserve'

/** Whether the state directory is, or will be, on SOURCE's own volume. */
export function sharesVolume(source: string, stateDir: string): boolean {
  return statSync(source, { throwIfNoEntry: false })?.dev === statSync(existing(stateDir)).dev
}

function existing(path: string): string {
  let found = path
  while (!statSync(found, { throwIfNoEntry: false })) found = dirname(found)
  return found
}

function freeBytes(path: string): number {
  const { blocks, bfree, bavail, bsize, type } = spaceOfPath(path)
  if (process.geteuid?.() !== 0) return Number(bavail) * bsize
  // ext4 keeps some blocks from root as well, for its own metadata.
  const kept = type === EXT4 ? Math.min(Number(blocks) / 50, EXT4_KEPT_BLOCKS) : 0
  return Math.max(0, Number(bfree) - kept) * bsize
}

/**
 * Room for a new state directory on SOURCE's own volume.
 * @throws UsageError if there is too little to keep anything in reserve
 */
export function requireRoom(stateDir: string): void {
  if (statSync(join(stateDir, CATALOG_FILE), { throwIfNoEntry: false })) return
  const free = freeBytes(existing(stateDir))
  if (free >= LEAST_FREE_BYTES) return
  throw new UsageError(
    `the state directory ${stateDir} would be on SOURCE's own volume, which has only ${formatBytes(free)} free: make ${formatBytes(LEAST_FREE_BYTES)} of room there, or give a --state-dir on another disk`,
    1,
  )
}

/**
 * Room for the catalog of a state directory on SOURCE's own volume, so that draining that volume goes on once it has not one
 * byte free. While the catalog is open the room is in its own files, where nobody else can take it: rows with nothing in them,
 * which are removed step by step, and blocks behind the end of its log. SQLite removes the log when it closes it, so in between a file of
 * that size keeps the room.
 */
export class Reserve {
  readonly #path: string
  readonly #catalogPath: string
  readonly #log: Log
  #bytes = 0
  /** The disk of the catalog is being asked whether it takes writes. */
  #asked: Promise<void> | undefined
  #isLow = false

  /** To be asked for before the catalog is opened: lets go of the file that kept the room. */
  constructor(stateDir: string, log: Log) {
    this.#path = join(stateDir, RESERVE_FILE)
    this.#catalogPath = join(stateDir, CATALOG_FILE)
    this.#log = log
    rmSync(this.#path, { force: true })
  }

  /** Takes the room for the catalog that was just opened, as much as the volume has to spare. */
  fill(catalog: Catalog): void {
    // What is there from before stays: the volume may have filled up since.
    const part = Math.floor(Math.min(MOST_BYTES, this.#free / PART) / STEPS) * STEPS
    this.#bytes = Math.max(Number(catalog.meta.get(NOTE) ?? 0), part)
    let log = 0
    try {
      // Before the first flush of a process the log cannot be folded in, and would grow.
      catalog.flushNow()
      log = reserveFile(`${this.#catalogPath}-wal`, 'r+', this.#bytes)
      for (let steps = 1; this.#lacks(catalog); steps += 1) {
        catalog.spare.setAside(this.#step)
        if (steps % (STEPS / 4) === 0) catalog.foldLog()
      }
      catalog.transaction(() => catalog.meta.set(NOTE, String(this.#bytes)))
      catalog.foldLog()
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      this.#log.warn({ err: error }, 'there is too little room to keep all of it in reserve')
    }
    if (log > 0) catalog.boundLog(log)
  }

  /** Gives the catalog of it where the volume gets full, and takes it anew where there is room, a step at a time. */
  tend(catalog: Catalog): void {
    const free = this.#free
    catalog.tight = free < this.#bytes
    const isToChange = catalog.tight
      ? catalog.emptyBytes < this.#bytes / 2
      : free > 4 * this.#bytes && this.#lacks(catalog)
    const asked = isToChange ? catalog.ready() : undefined
    if (!asked) this.#change(catalog, free)
    else
      this.#asked ??= asked.then(() => {
        this.#asked = undefined
        this.#change(catalog, free)
      })
  }

  #change(catalog: Catalog, free: number): void {
    try {
      if (catalog.tight)
        while (catalog.emptyBytes < this.#bytes / 2 && catalog.spare.release()) this.#isLow = true
      else if (free > 4 * this.#bytes && this.#lacks(catalog)) catalog.spare.setAside(this.#step)
      else this.#isLow = false
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      if (!this.#isLow) this.#log.warn({ err: error }, 'the volume of the state directory is full')
      this.#isLow = true
    }
  }

  /** The catalog is closed, and its log gone: the file takes that room, and some for what the next start writes. */
  close(): void {
    try {
      if (reserveFile(this.#path, 'w', this.#bytes + START_BYTES) > 0) return
      this.#log.warn({}, 'no room is kept in reserve for the next mount')
    } catch (error) {
      this.#log.warn({ err: error }, 'no room is kept in reserve for the next mount')
    }
  }

  #lacks(catalog: Catalog): boolean {
    return this.#free < ENOUGH_BYTES && catalog.spare.bytes < this.#bytes
  }

  get #free(): number {
    return freeBytes(dirname(this.#path))
  }

  get #step(): number {
    return this.#bytes / STEPS
  }
}

/** Takes room for a file, as much of it as there is; how much that came to. */
function reserveFile(path: string, flags: string, wanted: number): number {
  const descriptor = openSync(path, flags, 0o600)
  try {
    for (let bytes = wanted; bytes >= LEAST_FILE_BYTES; bytes -= Math.ceil(wanted / STEPS)) {
      try {
        fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, bytes)
        return bytes
      } catch (error) {
        if (!(error instanceof FsError)) throw error
      }
    }
    return 0
  } finally {
    closeSync(descriptor)
  }
}
