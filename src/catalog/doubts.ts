import type { StatementSync } from 'node:sqlite'
import { S_IFDIR, S_IFMT } from '../base/attributes.ts'
import type { Database } from '../base/database.ts'
import { MendNotes } from './mend-notes.ts'
import { LAYOUT_LOST, ROOT_INO, rowBefore, toSigned, toUnsigned } from './inode.ts'

// What was handed out by transactions that are lost is not handed out again: far more than fits into a log.
const SKIPPED = 1n << 24n
// And more than anybody changes between a copy of the state directory and the day when it is put back.
export const SKIPPED_BY_OLDER_COPY = 1n << 30n
const COUNTERS = ['next-version', 'next-generation', 'next-ino', 'next-staging-file']
const FIRST_AFTER = 'first-generation-after-loss'

/** What a comparison with the store has shown of a file in doubt; as the catalog has it. */
const COMPARED = { not: 0, 'nothing newer': 1, taken: 2 } as const
export type Compared = keyof typeof COMPARED

/** In the place of `not`: besides, a record in the store has been found to name the file. */
const NAMED = 3
const UNCOMPARED = `${COMPARED.not}, ${NAMED}`

const outcomeOf = (column: unknown): Compared =>
  (Object.keys(COMPARED) as Compared[]).find((outcome) => COMPARED[outcome] === Number(column)) ?? 'not'

/**
 * Meta: `yes` where the catalog has known all that was ever written to its namespace, so that what it does not name it has given up.
 */
export const KNOWS_ALL = 'knows-all'

/**
 * Meta: the first generation of what was made since the namespace was last taken without the store, which could not
 * say whether the catalog is an older copy; else empty.
 */
export const MADE_WITHOUT_STORE = 'first-generation-unclaimed'
/** Meta: when a loss was noted of which the staged files are to be copied yet, before anything brings them in line; else absent. */
const UNKEPT = 'loss-to-keep-staged-of'
/** Meta: `yes` while a catalog that is an older copy of itself is in doubt. */
const OLDER_COPY = 'older-copy'

/** A time when transactions were found to be lost. */
export interface Loss {
  readonly since: Date
  readonly detail: string
}

/**
 * What may be older than what was acknowledged, since damage took transactions that had been committed. It is written down until
 * somebody who knows better accepts it.
 */
export class Doubts {
  readonly #database: Database
  readonly #has: StatementSync
  readonly #note: StatementSync
  #any: boolean
  #isOlderCopy: boolean

  constructor(database: Database) {
    this.#database = database
    this.#has = database.prepare('SELECT compared FROM doubtful WHERE ino = ?')
    this.#note = database.prepare('INSERT OR REPLACE INTO doubtful (ino, compared) VALUES (?,?)')
    this.#any = database.prepare('SELECT 1 AS n FROM losses LIMIT 1').get() !== undefined
    this.#isOlderCopy = this.#any && this.#meta(OLDER_COPY) === 'yes'
  }

  /** While it is so, nothing is destroyed on the strength of what the catalog says. */
  get any(): boolean {
    return this.#any
  }

  /** The catalog is an older copy of itself: also what its mode makes of the volume may be long over. */
  get isOlderCopy(): boolean {
    return this.#isOlderCopy
  }

  /** The store may have objects of which the catalog knows neither keys nor names. */
  get mayLackKeys(): boolean {
    return this.#any || (this.#meta(MADE_WITHOUT_STORE) ?? '') !== ''
  }

  /** The file may be older than what was acknowledged: what a comparison with the store has shown. `undefined`: it is not in doubt. */
  comparedOf(ino: bigint): Compared | undefined {
    const row = this.#any ? this.#has.get(toSigned(ino)) : undefined
    return row && outcomeOf(row.compared)
  }

  /**
   * Writes down what the database has found to be lost, if it has. Before anything is read from the catalog.
   * @returns whether it was something
   */
  noteLost(): boolean {
    const { lost } = this.#database
    if (!lost) return false
    this.#database.transaction(() => {
      const before = this.#count()
      if (lost.pages) this.#doubtPages(new Set(lost.pages))
      else this.#doubtAll()
      const isGoingOn = this.#meta(FIRST_AFTER) !== undefined && this.toCompare(1).length > 0
      this.#skipNumbers()
      this.#database.prepare("UPDATE meta SET value = '' WHERE name = ?").run(KNOWS_ALL)
      if (!isGoingOn)
        this.#database
          .prepare('INSERT OR REPLACE INTO meta VALUES (?,?)')
          .run(FIRST_AFTER, this.#meta('next-generation') ?? '1')
      this.#list(
        (lost.frames > 0
          ? `changes that had been acknowledged were lost with ${lost.frames} damaged pages of the log; `
          : `nobody can tell whether changes that had been acknowledged are lost: the log ${this.#database.path}-wal was gone, or ${this.#database.path}-witness, which says what it must have, was gone or damaged; `) +
          `${this.#count() - before} files may be as they were before, and names made since may be missing`,
      )
    })
    this.#any = true
    this.#database.flushNow()
    this.#database.forgetLost()
    return true
  }

  /**
   * The catalog is an older copy of itself: all of it may be older than what was acknowledged. Within a transaction,
   * after which `noted` is to be called.
   * @param firstAfter files with this number or a higher one were made since the copy was put back
   */
  noteOlderCopy(firstAfter: bigint): void {
    const isGoingOn = this.toCompare(1).length > 0
    this.#doubtAll()
    // Also where the copy is from before the first row: the store's record of the root leads to all the rest.
    this.note(ROOT_INO, 'not')
    const set = this.#database.prepare('INSERT OR REPLACE INTO meta VALUES (?,?)')
    set.run(KNOWS_ALL, '')
    set.run(OLDER_COPY, 'yes')
    if (!isGoingOn || this.#meta(FIRST_AFTER) === undefined) set.run(FIRST_AFTER, firstAfter.toString())
    this.#list(
      `${this.#database.path} is an older copy of itself: the store has been written to by a later state of this state directory; all ${this.#count()} files may be as they were before, and names made since may be missing${this.#olderMode()}`,
    )
  }

  /** Store or SOURCE are not as the catalog left them: what it says of them may not be so. Within a transaction, as above. */
  noteLoss(detail: string): void {
    this.#add(detail, Date.now())
  }

  /** Another may have been decided on since. */
  #olderMode(): string {
    const mode = this.#meta('mode')
    return mode === undefined ? '' : `; mode ${mode} is that of the copy`
  }

  /** A loss was committed. */
  noted(): void {
    this.#any = true
    this.#isOlderCopy = this.#meta(OLDER_COPY) === 'yes'
  }

  #doubtAll(): void {
    this.#database.exec(`INSERT INTO doubtful (ino, compared) SELECT ino, ${COMPARED.not} FROM inodes WHERE true
      ON CONFLICT (ino) DO UPDATE SET compared = ${COMPARED.not}`)
  }

  #list(detail: string): void {
    const now = Date.now()
    this.#add(detail, now)
    this.#database
      .prepare('INSERT OR REPLACE INTO meta VALUES (?,?)')
      .run(UNKEPT, new Date(now).toISOString())
  }

  #add(detail: string, now: number): void {
    this.#database.prepare('INSERT INTO losses (since, detail) VALUES (?,?)').run(now, detail)
  }

  /** A loss was noted at this time, by this process or one that died since, and the staged files are not copied yet. */
  get unkept(): string | undefined {
    return this.#meta(UNKEPT)
  }

  /** The staged files are copied, on the medium. */
  kept(): void {
    this.#database.transaction(() => this.#database.prepare('DELETE FROM meta WHERE name = ?').run(UNKEPT))
  }

  /** Times when something was lost that nobody has accepted yet. */
  losses(): Loss[] {
    const rows = this.#database.prepare('SELECT since, detail FROM losses ORDER BY seq').all()
    return rows.map(({ since, detail }) => ({ since: new Date(Number(since)), detail: String(detail) }))
  }

  /** Files that may be older than what was acknowledged, `limit` at most. */
  files(limit: number): Array<{ ino: bigint; compared: Compared }> {
    const rows = this.#database.prepare('SELECT ino, compared FROM doubtful LIMIT ?', true).all(limit)
    return rows.map(({ ino, compared }) => ({
      ino: toUnsigned(ino as bigint),
      compared: outcomeOf(compared),
    }))
  }

  #inos(sql: string, after: bigint, limit: number): bigint[] {
    const rows = this.#database.prepare(sql, true).all(after, limit)
    return rows.map(({ ino }) => toUnsigned(ino as bigint))
  }

  #meta(name: string): string | undefined {
    const row = this.#database.prepare('SELECT value FROM meta WHERE name = ?').get(name)
    return row && String(row.value)
  }

  /**
   * Files in doubt that have not been compared with the store yet, by their number, `limit` at most.
   * @param after only those behind this one @param kind directories, those that a record names, or all else; all if absent
   */
  toCompare(limit: number, after?: bigint, kind?: 'directories' | 'named directories' | 'files'): bigint[] {
    const outcomes = kind === 'named directories' ? NAMED : UNCOMPARED
    const equals = kind === 'files' ? '<>' : '='
    const sql =
      kind === undefined
        ? `SELECT ino FROM doubtful WHERE compared IN (${outcomes}) AND ino > ? ORDER BY ino LIMIT ?`
        : `SELECT d.ino AS ino FROM doubtful AS d LEFT JOIN inodes AS i ON i.ino = d.ino
           WHERE d.compared IN (${outcomes}) AND d.ino > ?
             AND (coalesce(i.mode, 0) & ${S_IFMT}) ${equals} ${S_IFDIR} ORDER BY d.ino LIMIT ?`
    return this.#inos(sql, rowBefore(after), limit)
  }

  /** Within a transaction: a record in the store names the file. Known until that is compared itself. */
  noteNamed(ino: bigint): void {
    const set = `UPDATE doubtful SET compared = ${NAMED} WHERE ino = ? AND compared = ${COMPARED.not}`
    this.#database.prepare(set).run(toSigned(ino))
  }

  /** Whether a record in the store names the file, which is not compared yet. */
  isNamed(ino: bigint): boolean {
    return this.#has.get(toSigned(ino))?.compared === NAMED
  }

  /** Files with this number or a higher one were made after the loss, while not all was compared: the store's records are older. */
  get firstGenerationAfter(): number {
    return Number(this.#meta(FIRST_AFTER) ?? Number.POSITIVE_INFINITY)
  }

  /** The file is in doubt, and has been compared with the store, or has not. Within a transaction. */
  note(ino: bigint, compared: Compared): void {
    this.#note.run(toSigned(ino), COMPARED[compared])
  }

  /** For a comparison with the store, which is to end it. */
  beginNotes(): MendNotes {
    return new MendNotes(this.#database)
  }

  /** Something was compared with the store, and stays in doubt until it is accepted. */
  get anyCompared(): boolean {
    const sql = `SELECT 1 AS n FROM doubtful WHERE compared NOT IN (${UNCOMPARED}) LIMIT 1`
    return this.#database.prepare(sql).get() !== undefined
  }

  /**
   * Everything is to be taken as it is from now on.
   * @param isAll also what could not be compared with the store; else that stays in doubt, and with it that something is lost
   */
  accept(isAll = true): void {
    this.#database.transaction(() => {
      this.#database.exec(
        isAll ? 'DELETE FROM doubtful' : `DELETE FROM doubtful WHERE compared NOT IN (${UNCOMPARED})`,
      )
      if (this.toCompare(1).length > 0) return
      this.#database.exec('DELETE FROM losses')
      this.#database.prepare('DELETE FROM meta WHERE name = ?').run(OLDER_COPY)
    })
    this.#any = this.toCompare(1).length > 0
    this.#isOlderCopy &&= this.#any
  }

  /** Whether there is a file or directory of which the store has lost something: what that was made of may come back. */
  get anyLost(): boolean {
    const sql = `SELECT 1 AS n FROM inodes WHERE failure IS NOT NULL AND layout = ${LAYOUT_LOST} LIMIT 1`
    return this.#database.prepare(sql).get() !== undefined
  }

  #count(): number {
    return Number(this.#database.prepare('SELECT count(*) AS n FROM doubtful').get()?.n)
  }

  #skipNumbers(): void {
    const database = this.#database
    for (const name of COUNTERS) {
      const row = database.prepare('SELECT value FROM meta WHERE name = ?').get(name)
      if (!row) continue
      const next = (BigInt(String(row.value)) + SKIPPED).toString()
      database.prepare('UPDATE meta SET value = ? WHERE name = ?').run(next, name)
    }
  }

  /**
   * The files and directories with rows that were on these pages. What a lost transaction changed was, before it, in a page that it
   * changed, or below one: so these are all.
   */
  #doubtPages(pages: ReadonlySet<number>): void {
    const doubt = this.#database.prepare(
      `INSERT OR REPLACE INTO doubtful (ino, compared) VALUES (?, ${COMPARED.not})`,
    )
    const inodes = this.#places('inodes', pages)
    for (const { ino } of this.#rows('SELECT ino FROM inodes ORDER BY ino'))
      if (inodes.next().value === true) doubt.run(ino ?? null)
    const names = this.#places('dirents', pages)
    for (const { parent, ino } of this.#rows('SELECT parent, ino FROM dirents ORDER BY parent, name')) {
      if (names.next().value !== true) continue
      doubt.run(parent ?? null)
      if (ino !== null) doubt.run(ino ?? null)
    }
  }

  #rows(sql: string): NodeJS.Iterator<Record<string, bigint | null>> {
    const statement = this.#database.prepare(sql, true)
    return statement.iterate() as NodeJS.Iterator<Record<string, bigint | null>>
  }

  /**
   * For the rows of a table, in the order of its key: whether it is on one of the pages, or below one. In the tree of a table with
   * row ids all rows are in leaves; in any other tree there is one in a page above between two leaves.
   */
  *#places(table: string, pages: ReadonlySet<number>): Generator<boolean, undefined> {
    const tree = this.#database
      .prepare(
        `SELECT path, pageno, ncell, pagetype FROM dbstat WHERE name = ? AND pagetype <> 'overflow' ORDER BY path`,
      )
      .all(table)
      .map(({ path, pageno, ncell, pagetype }) => ({
        path: String(path),
        page: Number(pageno),
        rows: Number(ncell),
        isLeaf: pagetype === 'leaf',
      }))
    const above = tree.filter(({ isLeaf, page }) => !isLeaf && pages.has(page)).map(({ path }) => path)
    const isBelow = (path: string): boolean => above.some((changed) => path.startsWith(changed))
    const leaves = tree.filter(({ isLeaf }) => isLeaf)
    const isOfRowIds = table === 'inodes'
    for (const [index, { path, page, rows }] of leaves.entries()) {
      const isDoubtful = pages.has(page) || isBelow(path)
      for (let row = 0; row < rows; row += 1) yield isDoubtful
      const next = leaves[index + 1]
      if (!isOfRowIds && next) yield isBelow(commonPath(path, next.path))
    }
    return undefined
  }
}

/** Of the page in which the row between two leaves is. */
function commonPath(one: string, other: string): string {
  let length = 0
  while (length < one.length && one[length] === other[length]) length += 1
  return one.slice(0, one.lastIndexOf('/', length - 1) + 1)
}
