import type { Database } from '../base/database.ts'
import { Statements } from './statements.ts'

/** Requests that were begun on the legacy volume and what was answered to them, by the kernel's number. */
export class Intents {
  readonly #sql

  constructor(database: Database) {
    this.#sql = new Statements(database, {
      one: 'SELECT operation, answer FROM intents WHERE id = ?',
      put: 'INSERT OR REPLACE INTO intents VALUES (?,?,?)',
      drop: 'DELETE FROM intents WHERE id = ?',
      all: 'SELECT id, operation, answer FROM intents',
      clear: 'DELETE FROM intents',
    })
  }

  get(id: bigint): { operation: string; answer: string | undefined } | undefined {
    const row = this.#sql.one('one', id)
    return row
      ? { operation: String(row.operation), answer: row.answer === null ? undefined : String(row.answer) }
      : undefined
  }

  put(id: bigint, operation: string, answer: string | undefined): void {
    this.#sql.run('put', id, operation, answer ?? null)
  }

  drop(id: bigint): void {
    this.#sql.run('drop', id)
  }

  all(): Array<{ id: bigint; operation: string; answer: string | undefined }> {
    return this.#sql.all('all').map((row) => ({
      id: row.id as bigint,
      operation: String(row.operation),
      answer: row.answer === null ? undefined : String(row.answer),
    }))
  }

  clear(): void {
    this.#sql.run('clear')
  }
}
