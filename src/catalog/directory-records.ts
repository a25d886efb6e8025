import type { Database } from '../base/database.ts'
import { type Departures, Forgetting, type Numbered } from './departures.ts'
import { fileId, type Inode, toSigned, toUnsigned } from './inode.ts'
import { blob, type Dirent, type Links } from './links.ts'
import { bucketsOf, type NameBuckets } from './name-buckets.ts'
import type { Outbox } from './outbox.ts'
import { Statements } from './statements.ts'

/** What is left of a directory that is gone: the shards of its record below this number, and what that named. */
export interface GoneDirectory extends Numbered {
  readonly recordGeneration: number
  readonly shards: number
}

/** A name as a directory's record may have it. */
export interface ShardEntry
  extends Pick<Inode, 'ino' | 'generation' | 'mode' | 'nlink' | 'key' | 'version' | 'dirShards'> {
  readonly name: Buffer
}

// Rows read in one go: a fraction of a millisecond.
const ROWS_AT_ONCE = 256

interface Surroundings {
  readonly inodes: { get(ino: bigint): Inode | undefined; save(inode: Inode): void }
  readonly links: Links
  readonly buckets: NameBuckets
  readonly outbox: Outbox
  readonly departures: Departures
}

/** What the records of directories in the store say, and what has to be written there because names came and went. */
export class DirectoryRecords {
  readonly #inodes: Surroundings['inodes']
  readonly #links: Links
  readonly #buckets: NameBuckets
  readonly #outbox: Outbox
  readonly #departures: Departures
  readonly #sql

  constructor(database: Database, { inodes, links, buckets, outbox, departures }: Surroundings) {
    this.#inodes = inodes
    this.#links = links
    this.#buckets = buckets
    this.#outbox = outbox
    this.#departures = departures
    this.#sql = new Statements(database, {
      shard: `SELECT d.name, d.ino, generation, mode, nlink, key, version, dir_shards FROM dirents AS d
           JOIN inodes AS i ON i.ino = d.ino WHERE d.parent = ? AND bucket >= ? AND bucket < ? AND d.ino IS NOT NULL`,
      gone: 'SELECT * FROM gone_directories LIMIT 1',
      putGone:
        'INSERT INTO gone_directories VALUES (?,?,?,?) ON CONFLICT (generation) DO UPDATE SET shards = excluded.shards',
      dropGone: 'DELETE FROM gone_directories WHERE generation = ?',
    })
  }

  /** The file is in the store: the record of a directory that has it has to say so. */
  announce({ parent, name }: Dirent): void {
    this.begin(parent)
    this.touchEntry(parent, name)
  }

  /** From now on the directory, and every directory above it, has a record in the store. */
  begin(ino: bigint): void {
    const directory = this.#inodes.get(ino)
    if (!directory || directory.dirGeneration > 0) return
    directory.dirGeneration = 1
    this.#inodes.save(directory)
    this.#outbox.markShard(ino, 0)
    this.#outbox.add('directory', ino)
    for (const link of this.#links.of(ino)) {
      this.begin(link.parent)
      this.touchEntry(link.parent, link.name)
    }
  }

  /** The directory's record in the store needs this entry written again, if there is or will be such a record. */
  touchEntry(parent: bigint, name: Buffer): void {
    const directory = this.#inodes.get(parent)
    if (!directory || directory.dirGeneration === 0) return
    this.#outbox.markShard(parent, this.#buckets.shard(name, Math.max(1, directory.dirShards)))
    this.#outbox.add('directory', parent)
  }

  /** The record's header (attributes of the directory itself) is out of date. */
  touchHeader(ino: bigint): void {
    if ((this.#inodes.get(ino)?.dirGeneration ?? 0) > 0) this.#outbox.add('directory', ino)
  }

  /** Shown entries of one shard out of `shards` (a power of two). */
  shardEntries(parent: bigint, shard: number, shards: number): ShardEntry[] {
    const { from, to } = bucketsOf(shard, shards)
    return this.#sql.all('shard', toSigned(parent), from, to).map((row) => ({
      name: blob(row.name),
      ino: toUnsigned(row.ino as bigint),
      generation: Number(row.generation),
      mode: Number(row.mode),
      nlink: Number(row.nlink),
      key: row.key === null ? undefined : String(row.key),
      version: Number(row.version),
      dirShards: Number(row.dir_shards),
    }))
  }

  /** Another file or none is shown under the name. */
  moved(parent: bigint, name: Buffer, from: bigint | undefined, to: bigint | undefined): void {
    const gone = this.#recorded(from)
    const come = this.#recorded(to)
    if (!gone && !come) return
    // Whatever the store has of a file, a record has to lead to it.
    if (come) this.begin(parent)
    const directory = this.#inodes.get(parent)
    if (!directory || directory.dirGeneration === 0) return
    if (gone) this.#departures.add({ directory, name, file: gone }, this.#buckets.of(name))
    if (come) this.departed(new Forgetting([{ directory, name, file: come }]))
    this.touchEntry(parent, name)
    // Those that have led to it for want of a name need not any more.
    if (come) this.touchNamesLeft(come)
  }

  /**
   * The file has lost the last of its names that anybody has met. SOURCE has others: until one of those is in a record, the record
   * of this directory leads to the file by the name that it has lost.
   */
  leaveBehind({ parent, name }: Pick<Dirent, 'parent' | 'name'>, file: Inode): void {
    this.begin(parent)
    const directory = this.#inodes.get(parent)
    if (!directory) return
    this.#departures.add({ directory, name, file }, this.#buckets.of(name))
    this.touchEntry(parent, name)
  }

  /** Records of directories that the file has left are to be written again. */
  touchNamesLeft(file: Numbered): void {
    for (const { directory, name } of this.#departures.placesOf(file)) this.touchEntry(directory.ino, name)
  }

  /** The file, if a directory's record mentions it or will. */
  #recorded(ino: bigint | undefined): Inode | undefined {
    const inode = ino === undefined ? undefined : this.#inodes.get(ino)
    return inode && (inode.version > 0 || inode.dirGeneration > 0) ? inode : undefined
  }

  /** The directory's record in the store has a name for a file that is not there: it is written anew, and the name goes from it. */
  disown(directory: Numbered, name: Buffer, file: Numbered): void {
    this.#departures.add({ directory, name, file }, this.#buckets.of(name))
    this.touchEntry(directory.ino, name)
  }

  /**
   * Records without these names are durable. What a directory that is gone still named is not to be had either, once nothing
   * names the directory. Takes `most` steps at a time; false if there are more to take, by asking again.
   */
  departed({ left: stack, way }: Forgetting, most = Number.POSITIVE_INFINITY): boolean {
    for (let steps = 0; steps < most; steps += 1) {
      const last = stack.at(-1)
      if (!last) return true
      const below = this.#isLastNameOfDead(last.file) ? this.#departures.below(last.file, 1)[0] : undefined
      if (below && !way.has(fileId(below.file))) {
        way.add(fileId(last.file))
        stack.push(below)
        continue
      }
      const done = below ?? last
      if (done === last) {
        stack.pop()
        way.delete(fileId(last.file))
      }
      this.#departures.remove(done)
      if (!this.#departures.isNamed(done.file)) this.#outbox.release(done.file.ino)
    }
    return stack.length === 0
  }

  /**
   * The directory is gone, with its record: if nothing in the store names it, nothing is to be had through it. The next of what it
   * still named, to be forgotten; `undefined` if there is nothing more.
   */
  forgettingOf(directory: Numbered): Forgetting | undefined {
    if (this.#departures.isNamed(directory)) return undefined
    const below = this.#departures.below(directory, ROWS_AT_ONCE)
    return below.length === 0 ? undefined : new Forgetting(below)
  }

  #isLastNameOfDead(file: Numbered): boolean {
    const inode = this.#inodes.get(file.ino)
    const lives = inode?.generation === file.generation && !inode.orphan
    return !lives && this.#departures.placesOf(file).length <= 1
  }

  /** A directory that is gone whose record is not all listed as garbage yet. */
  gone(): GoneDirectory | undefined {
    const row = this.#sql.one('gone')
    return (
      row && {
        ino: toUnsigned(row.ino as bigint),
        generation: Number(row.generation),
        recordGeneration: Number(row.record_generation),
        shards: Number(row.shards),
      }
    )
  }

  /** Notes how much of it is left. */
  putGone({ ino, generation, recordGeneration, shards }: GoneDirectory): void {
    this.#sql.run('putGone', generation, toSigned(ino), recordGeneration, shards)
    this.#outbox.noteGarbage()
  }

  dropGone({ generation }: Numbered): void {
    this.#sql.run('dropGone', generation)
  }

  /** Directories that were moved into one another before they were removed may be left to name each other: at a new mount they go. */
  dropUnreachable(): void {
    this.#departures.dropUnreachable()
    this.#outbox.releaseUnnamed()
  }
}
