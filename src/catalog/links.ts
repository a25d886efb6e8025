import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import { step } from '../base/turns.ts'
import type { MetFiles } from './met.ts'
import { BEFORE_ALL, ROOT_INO, type Row, toSigned, toUnsigned } from './inode.ts'
import { UnmetNames } from './unmet-names.ts'

/** A name in a directory: what the overlay shows there and what the legacy volume has there. */
export interface Dirent {
  readonly parent: bigint
  readonly name: Buffer
  /** The file shown; `undefined` for a whiteout. */
  readonly ino: bigint | undefined
  /** The file that the legacy volume has there; 0 for one that was deleted in the overlay; `UNKNOWN_FILE`; `undefined` for none. */
  readonly legacy: bigint | undefined
}

/** Some names, and whether they are all. */
interface Page {
  readonly names: readonly Dirent[]
  readonly isAll: boolean
}

type Kind = 'links' | 'moved'

const REMEMBERED_FILES = 16_384
// Most files have one name. One with very many costs as much as that, as long as nobody asks for all of them.
const FIRST_PAGE = 8
const PAGE = 256
// A path with more names than this leads in a circle.
const MOST_LEVELS = 4096
// Most paths have fewer names, and each of those is remembered; what is above costs a microsecond a level.
const LEVELS_BY_ONE = 16

const FIRST = { parent: BEFORE_ALL, name: new Uint8Array() }

/**
 * Where files are: the names that the overlay shows, and the places that the legacy volume has. Given page by page, to whoever
 * goes on asking. The first page is remembered: a copy asks for it a dozen times, and each answer takes SQLite 20 µs.
 * Invariant: whoever changes a row of `dirents` forgets the files that the row named before and names after.
 */
export class Links {
  /** Of a catalog that was made from the store: names that it has to find yet. */
  readonly unmet: UnmetNames
  readonly #sql: Readonly<Record<Kind | 'above', StatementSync>>
  readonly #known = new Map<bigint, Partial<Record<Kind, Page>>>()

  readonly #met: MetFiles

  constructor(database: Database, met: MetFiles) {
    this.#met = met
    this.unmet = new UnmetNames(database)
    const page = (where: string): StatementSync =>
      database.prepare(
        `SELECT parent, name, ino, legacy FROM dirents WHERE ${where} AND (parent, name) > (?2, ?3)
         ORDER BY parent, name LIMIT ?4`,
        true,
      )
    this.#sql = {
      links: page('ino = ?1'),
      moved: page('legacy = ?1 AND legacy IS NOT ino'),
      // A directory has one name. What is only met has no row: the next is asked for by itself.
      above: database.prepare(
        `WITH RECURSIVE above (nth, parent, name) AS (
           SELECT 1, parent, name FROM dirents WHERE ino = ?1 AND ino <> ${ROOT_INO}
           UNION ALL
           SELECT nth + 1, d.parent, d.name FROM above CROSS JOIN dirents AS d INDEXED BY dirents_ino ON d.ino = above.parent
             WHERE above.parent <> ${ROOT_INO} AND nth < ?2)
         SELECT parent, name FROM above ORDER BY nth`,
        true,
      ),
    }
  }

  /** Names under which the overlay shows the file. What goes or comes while they are taken may be among them or not. */
  *of(ino: bigint): Generator<Dirent, undefined> {
    yield* this.#all('links', ino)
    yield* this.#metNames(ino)
  }

  /** One of them; undefined for a file without a name. */
  first(ino: bigint): Dirent | undefined {
    return this.#first('links', ino).names[0] ?? this.#metNames(ino)[0]
  }

  /** Places on the legacy volume where the file is known to be. `parent` is the directory's inode in the overlay. */
  *places(ino: bigint): Generator<Dirent, undefined> {
    for (const link of this.of(ino)) if (link.legacy === ino) yield link
    yield* this.#all('moved', ino)
  }

  /** Whether the directory lies below another one, or is that. Names that lead to no root, as in a circle, count as below it. */
  isBelow(directory: bigint, above: bigint): boolean {
    let at = directory
    for (let level = 0; level < MOST_LEVELS && at !== ROOT_INO; level += 1) {
      if (at === above) return true
      const link = this.first(at)
      if (!link) return false
      at = link.parent
    }
    return at !== ROOT_INO
  }

  /** Path relative to the root by one of the file's names; `undefined` for a file without one. */
  pathOf(ino: bigint): Buffer | undefined {
    const parts: Buffer[] = []
    for (let current = ino; current !== ROOT_INO; ) {
      const link = this.first(current)
      if (!link || parts.length > MOST_LEVELS) return undefined
      parts.push(link.name)
      current = link.parent
      if (parts.length % LEVELS_BY_ONE !== 0) continue
      for (const above of this.#above(current)) {
        parts.push(blob(above.name))
        current = toUnsigned(above.parent as bigint)
      }
    }
    const slash = Buffer.from('/')
    return Buffer.concat(parts.reverse().flatMap((part, index) => (index === 0 ? [part] : [slash, part])))
  }

  #above(ino: bigint): Row[] {
    step()
    return this.#sql.above.all(toSigned(ino), PAGE) as Row[]
  }

  forget(...inos: readonly (bigint | undefined)[]): void {
    for (const ino of inos) if (ino !== undefined) this.#known.delete(ino)
  }

  clear(): void {
    this.#known.clear()
  }

  #metNames(ino: bigint): Dirent[] {
    return this.#met.namesOf(ino).map((met) => ({ ...met, legacy: ino }))
  }

  *#all(kind: Kind, ino: bigint): Generator<Dirent, undefined> {
    let page = this.#first(kind, ino)
    for (;;) {
      yield* page.names
      const last = page.names.at(-1)
      if (page.isAll || !last) return
      page = this.#read(kind, ino, { parent: toSigned(last.parent), name: last.name }, PAGE)
    }
  }

  #first(kind: Kind, ino: bigint): Page {
    let known = this.#known.get(ino)
    if (!known) {
      if (this.#known.size >= REMEMBERED_FILES) this.#known.clear()
      known = {}
      this.#known.set(ino, known)
    }
    return (known[kind] ??= this.#read(kind, ino, FIRST, FIRST_PAGE))
  }

  #read(kind: Kind, ino: bigint, after: { parent: bigint; name: Uint8Array }, limit: number): Page {
    step()
    const rows = this.#sql[kind].all(toSigned(ino), after.parent, after.name, limit) as Row[]
    return { names: rows.map(direntFromRow), isAll: rows.length < limit }
  }
}

export function direntFromRow(row: Row): Dirent {
  return {
    parent: toUnsigned(row.parent as bigint),
    name: blob(row.name),
    ino: row.ino === null ? undefined : toUnsigned(row.ino as bigint),
    legacy: row.legacy === null ? undefined : toUnsigned(row.legacy as bigint),
  }
}

export const blob = (value: Row[string] | undefined): Buffer =>
  value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.alloc(0)
