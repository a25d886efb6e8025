import type { Database } from '../base/database.ts'
import { Statements } from './statements.ts'

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
