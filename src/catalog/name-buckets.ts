import { hash, randomBytes } from 'node:crypto'
import { steadyMs } from '../base/clock.ts'
import type { Database } from '../base/database.ts'
import { LAYOUT_LOST } from './inode.ts'

const KEY = 'name-key'
const BUCKETS = 65_536

/** A key for the names of a new catalog. */
export const newNameKey = (): Buffer => randomBytes(16)

/** The statement that gives a new catalog this key. */
export const withNameKey = (key: Buffer): string =>
  `INSERT INTO meta VALUES ('${KEY}', '${key.toString('hex')}')`

/** Shard of a bucket when there are `shards` of them (a power of two). */
export function shardOf(bucket: number, shards: number): number {
  return Math.floor(bucket / (BUCKETS / shards))
}

/** The buckets [from, to) of a shard when there are `shards` of them. */
export function bucketsOf(shard: number, shards: number): { readonly from: number; readonly to: number } {
  const width = BUCKETS / shards
  return { from: shard * width, to: (shard + 1) * width }
}

/**
 * Which part of a directory's record a name belongs to: by 16 bits of a hash with a key that nobody else knows. Without one, whoever
 * may make names could make them for one part, which no splitting would ever make shorter (P6). Who reads a record reads all of
 * its parts, so the key is nobody's business but the catalog's.
 */
export class NameBuckets {
  readonly #key: Buffer

  constructor(database: Database) {
    const row = database.prepare('SELECT value FROM meta WHERE name = ?').get(KEY)
    this.#key = row ? Buffer.from(String(row.value), 'hex') : newNameKey()
    if (!row) this.#takeOver(database)
  }

  of(name: Uint8Array): number {
    return hash('sha256', Buffer.concat([this.#key, name]), 'buffer').readUInt16LE(0)
  }

  /** Shard of a name when there are `shards` of them. */
  shard(name: Buffer, shards: number): number {
    return shardOf(this.of(name), shards)
  }

  /** Up to format 13 the hash was a CRC-32. Records of several parts are owed: each of their names may belong to another one now. */
  #takeOver(database: Database): void {
    database.define('bucket_of', (name) => this.of(name as Uint8Array))
    database.transaction(() => {
      database.exec(`${withNameKey(this.#key)};
UPDATE dirents SET bucket = bucket_of(name);
UPDATE departures SET bucket = bucket_of(name);
INSERT OR IGNORE INTO dirty_shards SELECT ino, ${ALL_SHARDS} FROM inodes WHERE dir_shards > 1;
INSERT INTO outbox (kind, ino, since) SELECT 'directory', ino, ${steadyMs()} FROM inodes
  WHERE dir_shards > 1 AND orphan = 0 AND layout <> ${LAYOUT_LOST}
  ON CONFLICT DO NOTHING`)
    })
  }
}

/** In the place of a shard that is to be written: all of them, under another generation, as their names may have moved between them. */
export const ALL_SHARDS = -1
