import type { StatementSync } from 'node:sqlite'
import type { Database } from '../../base/database.ts'
import type { KeySpace } from '../contract.ts'
import { StoreCorrupt } from '../errors.ts'
import { describeKey } from '../validate.ts'
import { decodeRecord, headChecksum, type IndexRecord, RECORD_COLUMNS } from './record.ts'
import { SPACE_NUMBERS } from './schema.ts'
import { toStoreError } from './store-errors.ts'

/** The rows of the index, one for each object. */
export class RecordIndex {
  readonly #select: StatementSync
  readonly #upsert: StatementSync
  readonly #remove: StatementSync
  readonly #before: StatementSync
  readonly #after: StatementSync
  readonly #keyOf: StatementSync
  readonly #list: StatementSync

  constructor(database: Database) {
    this.#select = database.prepare(`SELECT ${RECORD_COLUMNS} FROM record WHERE space = ? AND key = ?`)
    this.#upsert = database.prepare(
      'INSERT INTO record (space, key, epoch, version, content_type, metadata, length, body, head, file, value) ' +
        'VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (space, key) DO UPDATE SET epoch = excluded.epoch, ' +
        'version = excluded.version, content_type = excluded.content_type, metadata = excluded.metadata, ' +
        'length = excluded.length, body = excluded.body, head = excluded.head, file = excluded.file, ' +
        'value = excluded.value',
    )
    this.#remove = database.prepare('DELETE FROM record WHERE space = ? AND key = ?')
    this.#before = database.prepare(
      'SELECT id, key FROM record INDEXED BY record_key WHERE space = ? AND key < ? ORDER BY key DESC LIMIT 1',
    )
    this.#after = database.prepare(
      'SELECT id, key FROM record INDEXED BY record_key WHERE space = ? AND key > ? ORDER BY key LIMIT 1',
    )
    this.#keyOf = database.prepare('SELECT key FROM record WHERE id = ?')
    this.#list = database.prepare(
      `SELECT key FROM record INDEXED BY record_key WHERE space = ? AND key > ? ORDER BY key LIMIT ?`,
    )
  }

  /** @throws StoreCorrupt if it is damaged */
  find(space: KeySpace, key: string): IndexRecord | undefined {
    try {
      const row = this.#select.get(SPACE_NUMBERS[space], key)
      return row && decodeRecord(space, key, row)
    } catch (error) {
      throw toStoreError(error, describeKey(space, key))
    }
  }

  /**
   * A damaged key in the index leads a search astray, and then its neighbours, not only itself, are not found. Where a
   * search ends beside such a key, the row that it belongs to has another one. So nothing found is absence.
   * @throws StoreCorrupt otherwise
   */
  requireAbsent(space: KeySpace, key: string): void {
    for (const statement of [this.#before, this.#after]) {
      const neighbour = statement.get(SPACE_NUMBERS[space], key)
      if (!neighbour) continue
      const row = this.#keyOf.get(neighbour.id ?? null)
      if (row?.key === neighbour.key) continue
      throw new StoreCorrupt(
        `${describeKey(space, key)}: the index is damaged there; restore the store from a backup`,
      )
    }
  }

  /** Within a transaction. */
  put(record: IndexRecord): void {
    const { space, key, version } = record
    this.#upsert.run(
      SPACE_NUMBERS[space],
      key,
      version.epoch,
      version.version,
      record.contentType,
      record.metadata,
      record.length,
      record.body,
      headChecksum(record),
      record.file ?? null,
      record.value ?? null,
    )
  }

  /** Within a transaction. */
  remove(space: KeySpace, key: string): void {
    this.#remove.run(SPACE_NUMBERS[space], key)
  }

  /** Keys behind `after`, in their order, so many at most. */
  keys(space: KeySpace, after: string, limit: number): string[] {
    return this.#list.all(SPACE_NUMBERS[space], after, limit).map(({ key }) => String(key))
  }

  /** Reads something of it: whether that can be done. */
  touch(): void {
    this.#keyOf.get(0)
  }
}
