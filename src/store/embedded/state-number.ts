import { lstatSync, readFileSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database } from '../../base/database.ts'
import { reasonOf } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import { kindOf, O_READ, removePlace } from '../../base/plain-file.ts'
import { sealJson, unsealJson } from '../../base/sealed-json.ts'
import type { Log } from '../../observe/log.ts'
import type { GroupCommit } from './group-commit.ts'
import { STATE_NUMBER_TABLE } from './schema.ts'
import { syncDirectory, writeNewFile } from './value-files.ts'

// Not `index…`: what copies an index with all that is beside it is not to take this one along.
const NAME = 'state-number'

/**
 * A number that the index and a small file beside it have, raised with the first change after each opening and by the close behind it.
 * The file is told only after the index has it on the medium, so no crash and no power cut leaves it ahead: a file with a higher number
 * than the index proves that the index is an older copy of itself, also one that is whole.
 */
export class StateNumber {
  readonly #directory: string
  readonly #database: Database
  readonly #commits: GroupCommit
  readonly #log: Log
  #begun: Promise<void> | undefined
  #isBegun = false

  constructor(directory: string, database: Database, commits: GroupCommit, log: Log) {
    this.#directory = directory
    this.#database = database
    this.#commits = commits
    this.#log = log
  }

  /** Why the index is an older copy of itself; `undefined` where the file does not say so. @throws Error if it says nothing */
  static whyOlder(directory: string, database: Database): string | undefined {
    const path = join(directory, NAME)
    const own = numberIn(database)
    let told: number | undefined
    try {
      told = read(path)
    } catch (error) {
      throw new Error(`${path} cannot be read: ${reasonOf(error)}; remove it if the index is the newest`)
    }
    if (told === undefined || told <= own) return undefined
    return `it is an older copy, the store has been changed since (${path} says state ${told}, the index ${own})`
  }

  /** To be awaited before the first change is acknowledged; `undefined` once that is done. */
  begin(): Promise<void> | undefined {
    if (this.#isBegun) return undefined
    this.#begun ??= this.#begin().finally(() => {
      this.#isBegun = true
    })
    return this.#begun
  }

  async #begin(): Promise<void> {
    await this.#unlessItFails(async () => {
      let number: number | undefined
      await this.#commits.run(0, () => {
        number = this.#raise()
      })
      faultPoint('store.embedded.state-raised')
      await this.#tell(number)
    })
  }

  /**
   * Behind the last change: a copy that was made while the store was open is an older one, too. The changes are to be flushed
   * between this and what it returns.
   */
  end(): () => Promise<void> {
    if (!this.#isBegun) return async () => undefined
    let number: number | undefined
    try {
      number = this.#database.transaction(() => this.#raise())
    } catch (error) {
      this.#warn(error)
    }
    return () => this.#unlessItFails(() => this.#tell(number))
  }

  /** Without it an older copy may not be found out; nobody is kept from writing for that. The close tries it again. */
  async #unlessItFails(body: () => Promise<void>): Promise<void> {
    try {
      await body()
    } catch (error) {
      this.#warn(error)
    }
  }

  #warn(error: unknown): void {
    const path = join(this.#directory, NAME)
    this.#log.warn({ err: error, path }, 'embedded store: the number of its state stays as it was for now')
  }

  /** Within a transaction. `undefined` where the file is ahead: it goes on saying so. @throws Error if it cannot be read */
  #raise(): number | undefined {
    if (StateNumber.whyOlder(this.#directory, this.#database) !== undefined) return undefined
    const next = numberIn(this.#database) + 1
    this.#database.exec(`${STATE_NUMBER_TABLE}; INSERT OR REPLACE INTO state_number VALUES (0, ${next})`)
    return next
  }

  /** On the medium when it resolves; a crash leaves the old file or the new one. */
  async #tell(number: number | undefined): Promise<void> {
    if (number === undefined) return
    const path = join(this.#directory, NAME)
    removePlace(`${path}.new`)
    await writeNewFile(`${path}.new`, Buffer.from(sealJson({ state: number })))
    await rename(`${path}.new`, path)
    await syncDirectory(this.#directory)
  }
}

/** 0 in an index that was never told one. @throws an error of SQLite */
function numberIn(database: Database): number {
  const isThere = database.prepare("SELECT 1 AS n FROM sqlite_schema WHERE name = 'state_number'").get()
  const row = isThere && database.prepare('SELECT number FROM state_number').get()
  return typeof row?.number === 'number' ? row.number : 0
}

/** `undefined` if there is no file: the store is of an earlier ferryfs, or was copied without. @throws Error if it says nothing */
function read(path: string): number | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) return undefined
  if (!stat.isFile()) throw new Error(`there is ${kindOf(stat)}`)
  const { state } = unsealJson(readFileSync(path, { flag: O_READ }))
  if (typeof state !== 'number' || !Number.isSafeInteger(state)) throw new Error('it has no number')
  return state
}
