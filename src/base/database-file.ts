import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { DATABASE_SUFFIXES } from './database-suffixes.ts'
import { isSystemError, reasonOf } from './errors.ts'
import type { FailedSyncs } from './failed-syncs.ts'
import { closeFolding } from './fold.ts'
import { formatOf, isMarked, setMark, userVersionOf } from './open-mark.ts'
import { kindOf, O_READ } from './plain-file.ts'
import { PageSums } from './page-sums.ts'
import { begin, examine, type Witness } from './witness.ts'
import type { WriteProbe } from './write-probe.ts'

// Of pages, for each database. With twice as much nothing was faster: what is not here is in the page cache (bench/memory.ts).
const CACHE_KIB = 16 * 1024

/** The file is not what this program wrote: overwritten, truncated, or of another program or a newer format. */
export class DatabaseDamaged extends Error {
  constructor(path: string, why: string, options?: ErrorOptions) {
    super(`${path} cannot be used: ${why}`, options)
    this.name = 'DatabaseDamaged'
  }
}

export interface DatabaseOptions {
  /** Identifies the program's file (PRAGMA application_id), so that a foreign file is refused, not filled. */
  readonly applicationId: number
  /** Format of the schema; a file with a higher one was written by a newer ferryfs and is refused. */
  readonly format: number
  /** Creates the schema in an empty file. */
  readonly schema: string
  /** By format: what makes a file of the format before it one of this format. A file older than all of them is refused. */
  readonly upgrades?: Readonly<Record<number, string>>
  /**
   * Read the whole file once and compare its structure (time grows with the file). `false`: nor are its pages compared with their
   * checksums.
   */
  readonly check?: boolean
  /** The file has to be there, in this format, and nothing in it changes. */
  readonly readOnly?: boolean
  /**
   * A file that is of use only once it is whole, and is made anew otherwise: without a log beside it, and nothing of it is on the
   * medium before `flush`. A crash leaves anything.
   */
  readonly bulk?: boolean
  /** Asked whether the file's disk takes writes before anything is committed; closed with the file. */
  readonly probe?: WriteProbe
  /** Hears of syncs of the file and its log that fail. */
  readonly failedSyncs?: FailedSyncs
  /**
   * The log in the page cache is not what was written, and the disk lacks it as well: nothing that was committed since the last
   * flush can be relied on, and every change and flush fails from now on. To be opened anew, which goes on from what is whole.
   */
  onBroken?(error: unknown): void
  /** Hears of damage that was found in the file or its log, and put right: what it was in. */
  onRepaired?(what: string): void
  /** Pages are damaged beyond that, and it goes on without them (`isDamaged`); not given: the file is refused. */
  onDamagedPages?(why: string): void
}

/** A file that SQLite has open, and what is known of it. */
export interface OpenFile {
  readonly handle: DatabaseSync
  readonly witness: Witness
  /** It has pages that are not what was written, and goes on without them. */
  readonly isDamaged: boolean
  /** The file itself says that it is open. */
  readonly isMarked: boolean
}

/** A full disk has no room for what is beside the file: then it does without until the next start, and this is false. */
function unlessFull(body: () => void): boolean {
  try {
    body()
    return true
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOSPC') throw error
    return false
  }
}

/**
 * The statements that bring a file of this format to the program's.
 * @throws DatabaseDamaged if the file is of a newer format, or of one that nothing leads on from
 */
function upgradeOf(path: string, format: number, options: DatabaseOptions): string {
  const refuse = (advice: string): never => {
    throw new DatabaseDamaged(path, `its format is ${format}, this ferryfs knows ${options.format}${advice}`)
  }
  if (format > options.format) refuse('; use the newer ferryfs that wrote it')
  const steps: string[] = []
  for (let next = format + 1; next <= options.format; next += 1) {
    steps.push(options.upgrades?.[next] ?? refuse(''))
  }
  return steps.join(';')
}

/**
 * What is known of a file and its log is looked at, then SQLite opens it.
 * @throws DatabaseDamaged if the file is not a healthy one of this program and format
 */
export function openFile(path: string, options: DatabaseOptions): OpenFile {
  const fresh = !existsSync(path)
  let handle: DatabaseSync | undefined
  try {
    const { readOnly = false } = options
    refuseOtherKinds(path)
    const isKnown = ['-witness', '-sums'].some((suffix) => existsSync(path + suffix))
    if (isKnown && (fresh || statSync(path).size === 0))
      throw new DatabaseDamaged(path, 'it is gone or empty, and what is beside it is there')
    const { witness, repairs, pages, isMarkedFile } = examine(path)
    for (const repair of repairs) options.onRepaired?.(repair)
    // A page whose frames were lost may be what it was before a fold that never came: its checksum has to say so.
    const isToCheck = options.check !== false || witness.lost !== undefined
    const isDamaged = isToCheck && checkPages(path, pages, witness, options)
    handle = new DatabaseSync(path, { timeout: 5000, readOnly })
    const pragma = (name: string): unknown => Object.values(handle?.prepare(`PRAGMA ${name}`).get() ?? {})[0]
    const tables = handle.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number }
    if (!readOnly && tables.n === 0 && (fresh || pragma('application_id') === 0)) {
      handle.exec(
        `BEGIN IMMEDIATE; ${options.schema}; PRAGMA application_id=${options.applicationId};` +
          `PRAGMA user_version=${options.format}; COMMIT`,
      )
    }
    if (pragma('application_id') !== options.applicationId) {
      throw new DatabaseDamaged(path, 'it belongs to another program')
    }
    const format = formatOf(userVersionOf(handle))
    const upgrade = upgradeOf(path, format, options)
    if (upgrade && readOnly)
      throw new DatabaseDamaged(
        path,
        `its format is ${format}, which this ferryfs brings up to date when it mounts`,
      )
    // Only now is it ours to change.
    if (!readOnly)
      handle.exec(
        options.bulk
          ? 'PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF'
          : 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0',
      )
    if (!readOnly && !options.bulk && !existsSync(`${path}-sums`)) {
      // Its pages are added up while nobody has it open: to close another descriptor of it would drop SQLite's locks. Whoever finds
      // the checksums takes it that there was a witness.
      const isWitnessed = unlessFull(() => {
        if (witness.claim || !witness.isThere) witness.note({ log: undefined })
      })
      if (isMarked(handle)) setMark(handle, false)
      handle.close()
      if (isWitnessed) unlessFull(() => PageSums.make(`${path}-sums`, path))
      handle = new DatabaseSync(path, { timeout: 5000 })
      handle.exec('PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0')
    }
    if (upgrade) handle.exec(`BEGIN IMMEDIATE; ${upgrade}; PRAGMA user_version=${options.format}; COMMIT`)
    handle.exec(`PRAGMA cache_size=-${CACHE_KIB}; PRAGMA temp_store=MEMORY`)
    if (options.check) {
      const verdict = pragma('quick_check(1)')
      if (verdict !== 'ok') throw new DatabaseDamaged(path, String(verdict))
    }
    if (!readOnly && !options.bulk) unlessFull(() => begin(path, witness))
    return { handle, witness, isDamaged, isMarked: isMarkedFile && isMarked(handle) }
  } catch (error) {
    try {
      if (handle?.isTransaction) handle.exec('ROLLBACK')
      if (handle?.isOpen && options.readOnly) handle.close()
      else if (handle?.isOpen) closeFolding(path, handle)
    } catch {
      // The first error is the one that counts.
    }
    if (error instanceof DatabaseDamaged) throw error
    throw new DatabaseDamaged(path, error instanceof Error ? error.message : String(error), {
      cause: error,
    })
  }
}

/** @throws DatabaseDamaged where something else than a file lies in the place of one; an open of some would never end */
function refuseOtherKinds(path: string): void {
  for (const suffix of DATABASE_SUFFIXES) {
    const stat = lstatSync(path + suffix, { throwIfNoEntry: false })
    if (!stat || !(stat.isDirectory() || stat.isFIFO() || stat.isSocket())) continue
    throw new DatabaseDamaged(
      path,
      `there is ${kindOf(stat)} at ${path}${suffix}; take that away, or put the file back`,
    )
  }
}

/**
 * Whether a page is not what was written, beyond one flipped bit, and it goes on without it.
 * @throws DatabaseDamaged if it does not
 */
function checkPages(
  path: string,
  inLog: ReadonlySet<number>,
  witness: Witness,
  options: DatabaseOptions,
): boolean {
  const sums = PageSums.open(`${path}-sums`, options.readOnly)
  if (!sums) return false
  try {
    const { repairs, damaged } = sums.check(path, inLog)
    for (const repair of repairs) options.onRepaired?.(repair)
    if (damaged.length === 0) return false
    const why = `${damaged.length} of its pages, the first of them ${damaged[0]}, are not what was written`
    if (!options.onDamagedPages) throw new DatabaseDamaged(path, why)
    // A checkpoint may write such a page again, with checksums of what is in it then.
    if (!options.readOnly) witness.note({ isDamaged: true })
    options.onDamagedPages(why)
    return true
  } finally {
    sums.close()
  }
}

/**
 * Copies a database that nobody has open, with all that was committed to it and what is known about that. Nothing of the
 * first one changes.
 * @throws DatabaseDamaged if it cannot be read
 */
export async function copyDatabase(from: string, to: string): Promise<void> {
  try {
    for (const suffix of DATABASE_SUFFIXES) {
      if (suffix !== '' && !existsSync(from + suffix)) continue
      await copyFile(from + suffix, to + suffix, constants.COPYFILE_FICLONE)
      // By which an index of an earlier boot is known.
      const { atime, mtime } = statSync(from + suffix)
      utimesSync(to + suffix, atime, mtime)
    }
  } catch (error) {
    throw new DatabaseDamaged(from, `it cannot be copied to ${to}: ${reasonOf(error)}`, { cause: error })
  }
}

// "The Database Header": what it begins with, and the version for writers, which is another one from the first use of a log on.
const MAGIC = 'SQLite format 3\0'
const WRITE_VERSION_OFFSET = 18
const WITHOUT_LOG = 1

/**
 * Rows of a database that was made in bulk and has not been opened in any other way since. Nothing changes, there or beside it.
 * @returns undefined if it is another file; its rows are columns by name
 */
export function rowsOfUnused(
  path: string,
  applicationId: number,
  sql: string,
): ReadonlyArray<Readonly<Record<string, unknown>>> | undefined {
  const isBeside = (suffix: string): boolean => suffix !== '' && existsSync(path + suffix)
  if ([...DATABASE_SUFFIXES, '-journal'].some(isBeside) || !wasNeverLogged(path)) return undefined
  let handle: DatabaseSync | undefined
  try {
    handle = new DatabaseSync(path, { readOnly: true })
    const id = handle.prepare('PRAGMA application_id').get()?.application_id
    return id === applicationId ? handle.prepare(sql).all() : undefined
  } catch {
    // Damaged, or of another program: not of ours to say what it is.
    return undefined
  } finally {
    handle?.close()
  }
}

function wasNeverLogged(path: string): boolean {
  if (!lstatSync(path).isFile()) return false
  const descriptor = openSync(path, O_READ)
  try {
    const header = Buffer.alloc(WRITE_VERSION_OFFSET + 1)
    const length = readSync(descriptor, header, 0, header.length, 0)
    const hasMagic = header.toString('latin1', 0, MAGIC.length) === MAGIC
    return length === header.length && hasMagic && header[WRITE_VERSION_OFFSET] === WITHOUT_LOG
  } finally {
    closeSync(descriptor)
  }
}

/** A database with all that is beside it is gone. */
export function removeDatabase(path: string): void {
  for (const suffix of DATABASE_SUFFIXES) rmSync(path + suffix, { force: true })
}
