import type { Database, DatabaseOptions } from '../../base/database.ts'
import type { Log } from '../../observe/log.ts'

const MAY_BE_OLDER =
  'what it has may be older than what was stored, and some of it missing: restore the store from a backup'

/** What is found to be wrong with the index of an embedded store as it is opened: for its log, and for reports. */
export class FoundDamage {
  readonly #path: string
  readonly #log: Log
  #why: string | undefined

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
  sayOf({ isDamaged, lost }: Database): string | undefined {
    if (!isDamaged && !lost) return undefined
    const why = this.#why ?? (lost ? 'the end of its log is lost' : 'it was found damaged before')
    return `the index ${this.#path} of the store is damaged: ${why}; ${MAY_BE_OLDER}`
  }

  /** What was acknowledged is lost: from now on nothing that is not found is taken for absent. */
  noteLost(database: Database): void {
    if (!database.lost) return
    this.#log.error(
      { path: this.#path },
      'the index of the embedded store has lost what was acknowledged; restore it from a backup',
    )
    database.noteDamaged()
  }
}
