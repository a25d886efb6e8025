import type { SQLInputValue, StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import { step } from '../base/turns.ts'
import type { Row } from './inode.ts'

/** Statements of one table, by name; their integers come back as bigint. */
export class Statements<Name extends string> {
  readonly #prepared: Readonly<Record<Name, StatementSync>>

  constructor(database: Database, sql: Readonly<Record<Name, string>>) {
    const entries = Object.entries<string>(sql).map(([name, text]) => [name, database.prepare(text, true)])
    this.#prepared = Object.fromEntries(entries)
  }

  /** The first row, if there is one. */
  one(name: Name, ...parameters: readonly SQLInputValue[]): Row | undefined {
    step()
    return this.#prepared[name].get(...parameters) as Row | undefined
  }

  all(name: Name, ...parameters: readonly SQLInputValue[]): Row[] {
    step()
    return this.#prepared[name].all(...parameters) as Row[]
  }

  /** Column `n` of the first row; 0 if there is none. */
  number(name: Name, ...parameters: readonly SQLInputValue[]): number {
    return Number(this.one(name, ...parameters)?.n ?? 0)
  }

  /** How many rows it changed. */
  run(name: Name, ...parameters: readonly SQLInputValue[]): number {
    return Number(this.#prepared[name].run(...parameters).changes)
  }
}
