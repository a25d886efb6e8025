import { existsSync } from 'node:fs'
import { access, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { StatementSync } from 'node:sqlite'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Database, DatabaseDamaged } from '../../base/database.ts'
import { isSystemError, UsageError } from '../../base/errors.ts'
import type { FailedSyncs } from '../../base/failed-syncs.ts'
import { faultPoint } from '../../base/faults.ts'
import type { FileLock } from '../../base/file-lock.ts'
import { makePrivateDirectory, makePrivateFile } from '../../base/private.ts'
import { WriteProbe } from '../../base/write-probe.ts'
import type { Log } from '../../observe/log.ts'
import { untilGivenUp } from '../abort.ts'
import {
  compareVersions,
  type GetOptions,
  type KeySpace,
  type KeyValueStore,
  mayReplace,
  type ObjectToStore,
  type ObjectVersion,
  type PutOptions,
  type RequestOptions,
  type StoreCapabilities,
  type StoredObject,
} from '../contract.ts'
import { StoreCorrupt, StoreSuperseded, StoreUnavailable } from '../errors.ts'
import { checkKey, checkObject, checkVersion, describeKey } from '../validate.ts'
import { FileIds } from './file-ids.ts'
import { FoundDamage } from './found-damage.ts'
import { GroupCommit, NotFlushed } from './group-commit.ts'
import { lockDirectory } from './lock.ts'
import { INDEX, opening } from './opening.ts'
import { checkValue, type IndexRecord, metadataOf, recordOf } from './record.ts'
import { RecordIndex } from './record-index.ts'
import { StateNumber } from './state-number.ts'
import { toStoreError } from './store-errors.ts'
import { syncDirectory, ValueFiles } from './value-files.ts'

// A value is held in memory whole while it is written or read.
const MAX_VALUE_BYTES = 64 * 1024 * 1024

// Up to here a value lies in the index: it costs no file, no directory entry and no sync of its own.
const INLINE_BYTES = 32 * 1024

// Keys per step of a listing: no statement stays open between steps, so a listing never holds up a checkpoint.
const KEYS_PER_STEP = 1000

// What an index row costs in a transaction besides its value; only the order of magnitude matters.
const ROW_BYTES = 512

const LACKING =
  'it is not there, but the index has lost some of what was in it; restore the store from a backup'

export interface EmbeddedStoreOptions {
  /** As the operator gave it. */
  readonly url: string
  readonly log: Log
  /** As in DatabaseOptions. */
  readonly failedSyncs?: FailedSyncs
  /** `false`: the pages of the index are not compared with their checksums. */
  readonly check?: boolean
  /** The disk is asked whether it takes writes before anything is committed. */
  readonly probes?: boolean
  onBroken?(error: unknown): void
}

/** The index of the store in the directory. @throws UsageError if there is none, with what to do about it */
export function requireStore(directory: string, advice = ''): string {
  const index = join(directory, 'index.sqlite')
  if (!existsSync(index)) throw new UsageError(`there is no embedded store in ${directory}${advice}`, 4)
  return index
}

/**
 * A store in a directory of this machine: one SQLite file as index and for small values, one file for each large value.
 * `put` and `delete` resolve once the change is safe against power loss. Whatever a crash leaves behind is cleared when
 * the store is opened the next time.
 */
export class EmbeddedStore implements KeyValueStore {
  readonly url: string
  readonly capabilities: StoreCapabilities
  readonly #directory: string
  readonly #log: Log
  readonly #readOnly: boolean
  readonly #lock: FileLock
  readonly #database: Database
  readonly #commits: GroupCommit
  readonly #files: ValueFiles
  readonly #ids: FileIds
  readonly #state: StateNumber
  readonly #index: RecordIndex
  readonly #addGarbage: StatementSync
  readonly #dropGarbage: StatementSync
  readonly #pending = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  private constructor(
    directory: string,
    lock: FileLock,
    database: Database,
    options: EmbeddedStoreOptions,
    { readOnly = false, damage }: { readonly readOnly?: boolean; readonly damage: string | undefined },
  ) {
    this.#readOnly = readOnly
    this.capabilities = {
      maxValueBytes: MAX_VALUE_BYTES,
      listing: true,
      consistent: true,
      replaceSettleMs: 0,
      ...(damage !== undefined && { damage }),
    }
    this.url = options.url
    this.#log = options.log
    this.#directory = directory
    this.#lock = lock
    this.#database = database
    this.#commits = new GroupCommit(database)
    this.#files = new ValueFiles(join(directory, 'objects'))
    this.#ids = new FileIds(database, this.#commits)
    this.#state = new StateNumber(directory, database, this.#commits, options.log)
    this.#index = new RecordIndex(database)
    this.#addGarbage = database.prepare('INSERT OR IGNORE INTO garbage VALUES (?)')
    this.#dropGarbage = database.prepare('DELETE FROM garbage WHERE file = ?')
  }

  /**
   * Opens the store in a directory, which is created if it is not there.
   * @throws UsageError if another process has it open, or it is damaged or of a newer ferryfs
   */
  static async open(directory: string, options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
    return opening(directory, async (opened) => {
      const objects = join(directory, 'objects')
      // Whatever rights a file has on the legacy volume, here lies its content.
      const created = makePrivateDirectory(directory)
      makePrivateDirectory(objects)
      const lock = (opened.lock = lockDirectory(join(directory, 'lock')))
      const index = join(directory, 'index.sqlite')
      if (!existsSync(index) && (await readdir(objects)).length > 0) {
        // A new index beside old values would be an empty store, and everything in it gone.
        throw new DatabaseDamaged(index, 'it is missing, and there are values')
      }
      makePrivateFile(index)
      const found = new FoundDamage(index, options.log)
      const database = (opened.database = Database.open(index, {
        ...INDEX,
        ...(options.failedSyncs && { failedSyncs: options.failedSyncs }),
        ...(options.probes && { probe: new WriteProbe(directory, 'the disk of the store') }),
        ...(options.check === false && { check: false }),
        ...found.reports,
        onBroken: (error) => options.onBroken?.(error),
      }))
      const damage = await found.sayOf(directory, database)
      found.noteLost(database)
      if (created !== undefined) {
        for (let path = objects; path.length >= created.length; path = dirname(path)) {
          await syncDirectory(dirname(path))
        }
      }
      await syncDirectory(directory)
      const store = new EmbeddedStore(directory, lock, database, options, { damage })
      // What could not be cleared (a full disk) is found again the next time, and must not keep anyone from reading.
      await store.#clear().catch((error: unknown) => {
        options.log.warn({ err: error, directory }, 'embedded store: left-overs of the last run stay for now')
      })
      return store
    })
  }

  /**
   * Opens a store that is there, to be read. Nothing in its directory changes, left-overs of a crash included, and nobody else can
   * write to it meanwhile.
   * @throws UsageError if it is not there, another process has it open, or it is damaged or of a newer ferryfs
   */
  static async openToRead(directory: string, options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
    return opening(directory, async (opened) => {
      const index = requireStore(directory)
      const lock = (opened.lock = lockDirectory(join(directory, 'lock')))
      const found = new FoundDamage(index, options.log)
      const database = (opened.database = Database.open(index, {
        ...INDEX,
        ...found.reports,
        readOnly: true,
      }))
      const damage = await found.sayOf(directory, database)
      return new EmbeddedStore(directory, lock, database, options, { readOnly: true, damage })
    })
  }

  async get(space: KeySpace, key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    checkKey(space, key)
    return this.#request(`get ${describeKey(space, key)}`, options, async () => {
      // The index has small objects at hand: whoever asks for one after the other would keep everybody else.
      await nextTurn()
      return this.#get(space, key, options.expect)
    })
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options: PutOptions = {}): Promise<void> {
    checkObject(space, key, object, MAX_VALUE_BYTES)
    const { replaces } = options
    return this.#request(`put ${describeKey(space, key)}`, options, () =>
      this.#put(space, key, object, replaces),
    )
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options: RequestOptions = {},
  ): Promise<void> {
    checkKey(space, key)
    checkVersion(space, key, version)
    return this.#request(`delete ${describeKey(space, key)}`, options, () =>
      this.#delete(space, key, version),
    )
  }

  async *keys(space: KeySpace, options: RequestOptions = {}): AsyncIterable<string> {
    for (let last = ''; ; ) {
      const keys = await this.#request(`list ${space}`, options, async () => {
        await nextTurn()
        return this.#index.keys(space, last, KEYS_PER_STEP)
      })
      for (const key of keys) yield (last = key)
      if (keys.length < KEYS_PER_STEP) return
    }
  }

  async ping(options: RequestOptions = {}): Promise<void> {
    await this.#request('ping', options, async () => {
      this.#checkSound('ping')
      this.#index.touch()
      await access(join(this.#directory, 'objects'))
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // Whatever has begun comes to its end; it is bounded by the disk.
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending)
    try {
      if (!this.#readOnly) {
        this.#ids.saveClosed()
        const tell = this.#state.end()
        await this.#database.flush()
        await tell()
      }
    } catch (error) {
      this.#log.warn({ err: error, directory: this.#directory }, 'embedded store: last flush failed')
    }
    await this.#database.close()
    this.#lock.release()
  }

  async #request<T>(what: string, options: RequestOptions, body: () => Promise<T>): Promise<T> {
    if (this.#closing) throw new StoreUnavailable(`${what}: the store is closed`)
    return untilGivenUp(options.signal, what, () => this.#tracked(what, body))
  }

  // The work outlives the wait for it, and `close` waits for the work.
  async #tracked<T>(what: string, body: () => Promise<T>): Promise<T> {
    const work = body()
    this.#pending.add(work)
    try {
      return await work
    } catch (error) {
      throw toStoreError(error, what)
    } finally {
      this.#pending.delete(work)
    }
  }

  async #get(
    space: KeySpace,
    key: string,
    expect: ObjectVersion | undefined,
  ): Promise<StoredObject | undefined> {
    for (let record = this.#index.find(space, key); ; ) {
      if (expect && (!record || compareVersions(record.version, expect) < 0)) {
        throw new StoreCorrupt(
          `${describeKey(space, key)}: ${record ? 'only an older version than expected' : 'nothing'} is there, ` +
            'so the store has lost it; restore the store from a backup',
        )
      }
      if (!record) {
        if (this.#lacksSome) throw new StoreCorrupt(`${describeKey(space, key)}: ${LACKING}`)
        this.#index.requireAbsent(space, key)
        return undefined
      }
      const value = await this.#valueOf(record)
      if (value) {
        return {
          value,
          version: record.version,
          contentType: record.contentType,
          metadata: metadataOf(record),
        }
      }
      const current = this.#index.find(space, key)
      if (current?.file === record.file) {
        throw new StoreCorrupt(
          `${describeKey(space, key)}: its file ${this.#nameOf(record)} is missing; store the object again`,
        )
      }
      // Replaced or deleted since the first look.
      record = current
    }
  }

  async #valueOf(record: IndexRecord): Promise<Buffer | undefined> {
    const value =
      record.file === undefined ? record.value : await this.#files.read(record.file, record.length)
    if (value) checkValue(record, value, record.file === undefined ? 'the index' : this.#nameOf(record))
    return value
  }

  async #put(
    space: KeySpace,
    key: string,
    object: ObjectToStore,
    replaces: PutOptions['replaces'],
  ): Promise<void> {
    const what = `put ${describeKey(space, key)}`
    this.#checkSound(what)
    await this.#state.begin()
    if (object.value.length <= INLINE_BYTES) {
      return this.#store(recordOf(space, key, object, undefined), replaces)
    }
    this.#checkNotSuperseded(space, key, object.version)
    const file = await this.#fileFor(object.value)
    try {
      const record = recordOf(space, key, object, file)
      faultPoint('store.embedded.value-written')
      await this.#store(record, replaces)
    } catch (error) {
      // After a failed sync the row may be there all the same: the next open finds out whether the file has one.
      if (!(error instanceof NotFlushed)) await this.#abandon(file)
      throw error
    }
    this.#ids.settle(file)
  }

  /** A new file with a value. One that is there is of rows that the index has lost: the only copy, should they come back. */
  async #fileFor(value: Buffer): Promise<number> {
    for (;;) {
      const file = await this.#ids.take()
      try {
        await this.#files.write(file, value)
        return file
      } catch (error) {
        if (!isSystemError(error) || error.code !== 'EEXIST') {
          await this.#abandon(file)
          throw error
        }
        this.#ids.settle(file)
      }
    }
  }

  /** Removes the file of a put that failed. Where even that fails, the next open does it: the id is not settled. */
  async #abandon(file: number): Promise<void> {
    try {
      await this.#files.remove(file)
      this.#ids.settle(file)
    } catch (error) {
      this.#log.warn({ err: error, file: this.#files.pathOf(file) }, 'embedded store: a value file stays')
    }
  }

  async #store(record: IndexRecord, replaces: PutOptions['replaces']): Promise<void> {
    let replaced: number | undefined
    await this.#commits.run(ROW_BYTES + (record.value?.length ?? 0), () => {
      const { space, key, version } = record
      replaced = this.#checkNotSuperseded(space, key, version, replaces)
      if (replaced !== undefined) this.#addGarbage.run(replaced)
      this.#index.put(record)
    })
    this.#discard(replaced)
  }

  async #delete(space: KeySpace, key: string, version: ObjectVersion): Promise<void> {
    this.#checkSound(`delete ${describeKey(space, key)}`)
    await this.#state.begin()
    let removed: number | undefined
    await this.#commits.run(ROW_BYTES, () => {
      removed = this.#checkNotSuperseded(space, key, version)
      if (removed !== undefined) this.#addGarbage.run(removed)
      this.#index.remove(space, key)
    })
    this.#discard(removed)
  }

  /**
   * The file of the record that a change to `version` replaces, if it has one. A damaged record is older than any:
   * nobody can read it, and to store the object again is the repair.
   */
  #checkNotSuperseded(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    replaces?: PutOptions['replaces'],
  ): number | undefined {
    let record: IndexRecord | undefined
    try {
      record = this.#index.find(space, key)
    } catch (error) {
      if (!(error instanceof StoreCorrupt)) throw error
      this.#log.warn({ err: error }, 'embedded store: a damaged record is replaced')
    }
    if (record && compareVersions(record.version, version) > 0) {
      const { epoch, version: newer } = record.version
      throw new StoreSuperseded(`${describeKey(space, key)}: the newer version ${epoch}.${newer} is there`)
    }
    if (!mayReplace(record?.version, version, replaces))
      throw new StoreSuperseded(
        `${describeKey(space, key)}: another version is there than was to be replaced`,
      )
    return record?.file
  }

  /** The index has lost some of what was in it: what is not found may have been there. */
  get #lacksSome(): boolean {
    const { isDamaged, lost } = this.#database
    return isDamaged || lost !== undefined || this.capabilities.damage !== undefined
  }

  #checkSound(what: string): void {
    try {
      this.#database.requireWhole()
    } catch (error) {
      throw toStoreError(error, what)
    }
  }

  #nameOf(record: IndexRecord): string {
    return record.file === undefined ? 'the index' : this.#files.pathOf(record.file)
  }

  /** Removes a file that the flushed index does not refer to any more. */
  #discard(file: number | undefined): void {
    if (file === undefined) return
    const work = (async () => {
      try {
        faultPoint('store.embedded.committed')
        await this.#files.remove(file)
        faultPoint('store.embedded.discarded')
        await this.#files.prune(file, this.#ids.lowestInUse)
        // Not flushed: at worst the file is removed once more at the next start.
        this.#database.transaction(() => this.#dropGarbage.run(file))
      } catch (error) {
        // It stays on the list of garbage and is tried again at the next start.
        this.#log.warn({ err: error, file: this.#files.pathOf(file) }, 'embedded store: a value file stays')
      }
    })()
    this.#pending.add(work)
    void work.finally(() => this.#pending.delete(work))
  }

  /** Removes what a killed process left: files without a row, and replaced files that were not removed yet. */
  async #clear(): Promise<void> {
    // Rows that are lost may have been those of the files that would go.
    if (this.#lacksSome) return
    // What a killed process committed may not be on the medium, and the state before it refers to what goes now.
    await this.#database.flush()
    for (const { file } of this.#database.prepare('SELECT file FROM garbage').all()) {
      if (typeof file === 'number') this.#discard(file)
    }
    await Promise.all(this.#pending)
    const { from, to } = this.#ids.unsettled
    if (from === to) return
    const rows = this.#database.prepare('SELECT file FROM record WHERE file >= ?').all(from)
    const known = new Set(rows.map(({ file }) => file))
    let removed = 0
    for (const file of await this.#files.list(from, to)) {
      if (known.has(file)) continue
      await this.#files.remove(file)
      removed += 1
    }
    await this.#commits.run(0, () => this.#ids.save())
    if (removed > 0) this.#log.info({ removed }, 'embedded store: removed values of interrupted writes')
  }
}
