import type { Database } from '../base/database.ts'
import { Statements } from './statements.ts'

type Transaction = <T>(body: () => T) => T

/** Rows of nothing in `meta`, which take as much room in the file as others will: given up when its disk has none left. */
export class SpareRows {
  readonly #database: Database
  readonly #within: Transaction
  readonly #sql

  constructor(database: Database, within: Transaction) {
    this.#database = database
    this.#within = within
    this.#sql = new Statements(database, {
      spared: "SELECT sum(length(value)) AS n FROM meta WHERE name >= 'spare ' AND name < 'spare!'",
      setAside:
        "INSERT INTO meta SELECT printf('spare %06d', count(*)), zeroblob(?) FROM meta WHERE name >= 'spare ' AND name < 'spare!'",
      release:
        "DELETE FROM meta WHERE name = (SELECT max(name) FROM meta WHERE name >= 'spare ' AND name < 'spare!')",
    })
  }

  /** Bytes that rows can take without the file growing, those set aside among them. */
  get bytes(): number {
    return this.#database.emptyBytes + this.#sql.number('spared')
  }

  /** Keeps so many more bytes of the file for times without room on its disk. @throws FsError ENOSPC */
  setAside(bytes: number): void {
    this.#within(() => this.#sql.run('setAside', bytes))
  }

  /** Gives up what was set aside by one call; false if nothing is left. @throws FsError ENOSPC */
  release(): boolean {
    return this.#within(() => this.#sql.run('release') > 0)
  }
}
