import { type Database, rowsOfUnused } from '../base/database.ts'
import { APPLICATION_ID } from './schema.ts'
import { Statements } from './statements.ts'

/** Meta of a catalog that was made in bulk and that nobody has used since; undefined if that file is anything else. */
export function metaOfUnused(path: string): ReadonlyMap<string, string> | undefined {
  const rows = rowsOfUnused(path, APPLICATION_ID, 'SELECT name, value FROM meta')
  return rows && new Map(rows.map(({ name, value }) => [String(name), String(value)]))
}

/** What the catalog knows by a name of its own. */
export class Meta {
  readonly #sql

  constructor(database: Database) {
    this.#sql = new Statements(database, {
      one: 'SELECT value FROM meta WHERE name = ?',
      set: 'INSERT OR REPLACE INTO meta VALUES (?,?)',
    })
  }

  get(name: string): string | undefined {
    const row = this.#sql.one('one', name)
    return row ? String(row.value) : undefined
  }

  set(name: string, value: string): void {
    this.#sql.run('set', name, value)
  }
}
