import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import { type Inode, type Row, rowBefore, toSigned, toUnsigned } from './inode.ts'

/** A directory or a file, told from all others that ever had its number. */
export type Numbered = Pick<Inode, 'ino' | 'generation'>

/** A name that the record of `directory` in the store may still have for `file`, though the overlay shows the file there no more. */
export interface Departure {
  readonly directory: Numbered
  readonly name: Buffer
  readonly file: Numbered
}

/** Departures that are being forgotten, over as many turns as it takes: what one turn has done is not done again by the next. */
export class Forgetting {
  /** What is left; the last one comes first. */
  readonly left: Departure[]
  /** Directories on the way to the last one: moved into one another, they may name each other in the end. */
  readonly way = new Set<string>()

  constructor(departures: readonly Departure[]) {
    this.left = [...departures]
  }
}

/**
 * What directory records in the store may still name and the catalog does not: noted in the transaction in which the name goes,
 * forgotten once a record without it is durable, or once nothing in the store leads to that record any more. So it is known what
 * a record that is written anew takes from a file or directory, and whether an object can go.
 */
export class Departures {
  readonly #add: StatementSync
  readonly #remove: StatementSync
  readonly #of: StatementSync
  readonly #ofLiving: StatementSync
  readonly #nextBucket: StatementSync
  readonly #placesOf: StatementSync
  readonly #names: StatementSync
  readonly #below: StatementSync
  readonly #directories: StatementSync
  readonly #count: StatementSync
  readonly #any: StatementSync
  readonly #dropUnreachable: StatementSync

  constructor(database: Database) {
    this.#add = database.prepare('INSERT INTO departures VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING')
    this.#remove = database.prepare(
      'DELETE FROM departures WHERE parent = ? AND parent_generation = ? AND name = ? AND ino = ? AND generation = ?',
    )
    this.#of = database.prepare(
      `SELECT * FROM departures WHERE parent = ? AND parent_generation = ? AND bucket >= ? AND bucket < ?`,
      true,
    )
    this.#ofLiving = database.prepare(
      `SELECT d.* FROM departures AS d CROSS JOIN inodes AS i ON i.ino = d.ino AND i.generation = d.generation
       WHERE d.parent = ? AND d.parent_generation = ?`,
      true,
    )
    this.#nextBucket = database.prepare(
      'SELECT min(bucket) AS bucket FROM departures WHERE parent = ? AND parent_generation = ? AND bucket >= ?',
    )
    this.#placesOf = database.prepare(
      'SELECT * FROM departures WHERE ino = ? AND generation = ? LIMIT 64',
      true,
    )
    this.#names = database.prepare('SELECT 1 AS n FROM departures WHERE ino = ? AND generation = ? LIMIT 1')
    this.#below = database.prepare(
      'SELECT * FROM departures WHERE parent = ? AND parent_generation = ? LIMIT ?',
      true,
    )
    this.#directories = database.prepare(
      'SELECT DISTINCT parent FROM departed_names WHERE n > 0 AND parent > ? ORDER BY parent LIMIT ?',
      true,
    )
    this.#count = database.prepare('SELECT n FROM departed_names WHERE parent = ? AND parent_generation = ?')
    const livingParent = `SELECT 1 FROM inodes
      WHERE inodes.ino = d.parent AND inodes.generation = d.parent_generation AND orphan = 0`
    // Only those are kept in memory that have departures of their own.
    const isDirectory =
      'EXISTS (SELECT 1 FROM departures AS b WHERE b.parent = d.ino AND b.parent_generation = d.generation)'
    this.#dropUnreachable = database.prepare(
      `WITH RECURSIVE named (ino, generation) AS (
         SELECT d.ino, d.generation FROM departures AS d WHERE EXISTS (${livingParent}) AND ${isDirectory}
         UNION
         SELECT d.ino, d.generation FROM departures AS d
           JOIN named ON named.ino = d.parent AND named.generation = d.parent_generation WHERE ${isDirectory})
       DELETE FROM departures AS d
         WHERE NOT EXISTS (${livingParent}) AND (d.parent, d.parent_generation) NOT IN (SELECT * FROM named)`,
    )
    this.#any = database.prepare('SELECT 1 AS n FROM departures LIMIT 1')
  }

  add({ directory, name, file }: Departure, bucket: number): void {
    this.#add.run(
      toSigned(directory.ino),
      directory.generation,
      name,
      toSigned(file.ino),
      file.generation,
      bucket,
    )
  }

  remove({ directory, name, file }: Departure): void {
    this.#remove.run(toSigned(directory.ino), directory.generation, name, toSigned(file.ino), file.generation)
  }

  /** Those of one directory whose names fall into the buckets [from, to). */
  of({ ino, generation }: Numbered, from: number, to: number): Departure[] {
    return (this.#of.all(toSigned(ino), generation, from, to) as Row[]).map(departureOf)
  }

  /** Those of one directory whose files are anywhere: of a large one that is being removed most are not. */
  ofLiving({ ino, generation }: Numbered): Departure[] {
    return (this.#ofLiving.all(toSigned(ino), generation) as Row[]).map(departureOf)
  }

  /** The first bucket from this one on into which one of their names falls. */
  nextBucket({ ino, generation }: Numbered, from: number): number | undefined {
    const row = this.#nextBucket.get(toSigned(ino), generation, from) as { bucket: number | null } | undefined
    return row?.bucket ?? undefined
  }

  /** Where records may still name the file; 64 at most. */
  placesOf({ ino, generation }: Numbered): Departure[] {
    return (this.#placesOf.all(toSigned(ino), generation) as Row[]).map(departureOf)
  }

  /** Whether a record may still name the file in a place that it has left. */
  isNamed({ ino, generation }: Numbered): boolean {
    return this.#names.get(toSigned(ino), generation) !== undefined
  }

  /** The directories, dead ones too, whose records may have such names: up to `limit` of those that come after `after`. */
  directories(after: bigint | undefined, limit: number): bigint[] {
    return (this.#directories.all(rowBefore(after), limit) as Row[]).map((row) =>
      toUnsigned(row.parent as bigint),
    )
  }

  /** How many there are of one directory. */
  count({ ino, generation }: Numbered): number {
    return (this.#count.get(toSigned(ino), generation) as { n: number } | undefined)?.n ?? 0
  }

  /** Some of those of one directory. */
  below({ ino, generation }: Numbered, limit: number): Departure[] {
    return (this.#below.all(toSigned(ino), generation, limit) as Row[]).map(departureOf)
  }

  /** Drops those of directories that are gone and to which nothing leads but one another. */
  dropUnreachable(): void {
    this.#dropUnreachable.run()
  }

  get isEmpty(): boolean {
    return this.#any.get() === undefined
  }
}

function departureOf(row: Row): Departure {
  const name = row.name as Uint8Array
  return {
    directory: { ino: toUnsigned(row.parent as bigint), generation: Number(row.parent_generation) },
    name: Buffer.from(name.buffer, name.byteOffset, name.byteLength),
    file: { ino: toUnsigned(row.ino as bigint), generation: Number(row.generation) },
  }
}
