import { DatabaseSync, StatementSync } from 'node:sqlite'

const SQLITE_FULL = 13
// What is read, and what SQLite keeps in memory.
const HARMLESS = /^\s*(SELECT|BEGIN|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA)|\btemp\.met_/i

interface Full {
  left: number
  /** Fails once in its own place, then there is room again. */
  readonly once: boolean
}

const databases = new WeakMap<StatementSync, DatabaseSync>()
const written = new WeakSet<DatabaseSync>()
const full = new Map<string, Full>()

const { prepare } = DatabaseSync.prototype
const { run } = StatementSync.prototype

DatabaseSync.prototype.prepare = function (this: DatabaseSync, ...args: Parameters<typeof prepare>) {
  const statement = prepare.apply(this, args)
  databases.set(statement, this)
  return statement
}

StatementSync.prototype.run = function (this: StatementSync, ...args: Parameters<typeof run>) {
  const database = databases.get(this)
  const path = full.size > 0 ? database?.location() : undefined
  const state = path === undefined || path === null ? undefined : full.get(path)
  if (!database || !state) return run.apply(this, args)
  const sql = this.sourceSQL
  if (/^\s*BEGIN/i.test(sql)) written.delete(database)
  if (HARMLESS.test(sql)) return run.apply(this, args)
  const commits = /^\s*COMMIT/i.test(sql)
  // A transaction that wrote nothing needs no room.
  if (commits && !written.has(database)) return run.apply(this, args)
  written.add(database)
  state.left -= 1
  if (state.left >= 0) return run.apply(this, args)
  if (state.once && path) full.delete(path)
  // What SQLite does where the disk has no room for a page: the whole transaction is rolled back.
  if (database.isTransaction) database.exec('ROLLBACK')
  throw Object.assign(new Error('database or disk is full'), { errcode: SQLITE_FULL })
} as typeof run

/** The disk of a SQLite file has room for so many more writes; with `once` only the next one after them fails. */
export function fillDisk(path: string, writes = 0, once = false): void {
  full.set(path, { left: writes, once })
}

export function freeDisk(path: string): void {
  full.delete(path)
}
