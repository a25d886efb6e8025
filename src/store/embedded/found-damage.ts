import { join } from 'node:path'
import type { Database, DatabaseOptions } from '../../base/database.ts'
import { reasonOf } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
import { StateNumber } from './state-number.ts'
import { ValueFiles } from './value-files.ts'

const MAY_BE_OLDER =
  'what it has may be older than what was stored, and some of it missing: restore the store from a backup'

/** What is found to be wrong with the index of an embedded store as it is opened: for its log, and for reports. */
export class FoundDamage {
  readonly #path: string
  readonly #log: Log
  #why: string | undefined
  #isOlder = false

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  get reports(): Pick<DatabaseOptions, 'onRepaired' | 'onDamagedPages'> {
    const path = this.#path
    return {
      onRepaired: (what) =>
        this.#log.error(
          { path, what },
          'a flipped bit was found and put right: the disk or the memory fails',
        ),
      onDamagedPages: (why) => {
        this.#why = why
        this.#log.error(
          { path },
          `the index of the embedded store is damaged: ${why}; restore it from a backup`,
        )
      },
    }
  }

  /** `undefined` where nothing is wrong that stays so. */
  async sayOf(directory: string, database: Database): Promise<string | undefined> {
    const { isDamaged, lost } = database
    const older = await this.#whyOlder(directory, database)
    if (!isDamaged && !lost && older === undefined) return undefined
    const why = this.#why ?? older ?? (lost ? 'the end of its log is lost' : 'it was found damaged before')
    return `the index ${this.#path} of the store is damaged: ${why}; ${MAY_BE_OLDER}`
  }

  /** An index that came back whole, with all that is beside it, has nothing in it that shows it: what it knows nothing of does. */
  async #whyOlder(directory: string, database: Database): Promise<string | undefined> {
    try {
      const why = StateNumber.whyOlder(directory, database) ?? (await whyBehindValues(directory, database))
      this.#isOlder = why !== undefined
      return why
    } catch (error) {
      return `nobody can tell whether it is an older copy: ${reasonOf(error)}`
    }
  }

  /** What was acknowledged is lost: from now on nothing that is not found is taken for absent. */
  noteLost(database: Database): void {
    if (!database.lost && !this.#isOlder) return
    this.#log.error(
      { path: this.#path },
      'the index of the embedded store has lost what was acknowledged; restore it from a backup',
    )
    database.noteDamaged()
  }
}

/** Numbers of files are used only once the index has reserved them, on the medium: no crash leaves a file beyond. */
async function whyBehindValues(directory: string, database: Database): Promise<string | undefined> {
  const reserved = database.prepare('SELECT reserved FROM file_ids').get()?.reserved
  if (typeof reserved !== 'number') return undefined
  const file = await new ValueFiles(join(directory, 'objects')).anyFrom(reserved)
  return file && `it is an older copy, ${file} was stored since`
}
