import type { Database } from '../base/database.ts'
import { toSigned, toUnsigned } from './inode.ts'
import { Statements } from './statements.ts'

/** What was mounted at a place on the legacy volume when that was looked at last. */
interface MountedThere {
  /** The file system's number in the catalog (`legacy_dev`), 0 for SOURCE's own. */
  readonly device: bigint
  /** Inode number of what was mounted: a directory, or a file that was bind-mounted; 0 where a catalog before format 15 has it. */
  readonly rootIno: bigint
  /** Its time of birth, 0 where the file system keeps none. */
  readonly rootBtimeNs: bigint
}

/** A name in a legacy directory, which is named by its inode in the overlay. */
interface Place {
  readonly parent: bigint
  readonly name: Buffer
}

/** Places below SOURCE where something was mounted. There are few, mostly none. */
export class MountPlaces {
  readonly #isWithoutRoom: () => boolean
  readonly #sql
  #any: boolean

  constructor(database: Database, isWithoutRoom: () => boolean) {
    this.#isWithoutRoom = isWithoutRoom
    this.#sql = new Statements(database, {
      one: 'SELECT device, root_ino, root_btime FROM mounts WHERE parent = ? AND name = ?',
      put: 'INSERT OR REPLACE INTO mounts (parent, name, device, root_ino, root_btime) VALUES (?,?,?,?,?)',
      remove: 'DELETE FROM mounts WHERE parent = ? AND name = ?',
      any: 'SELECT 1 AS n FROM mounts LIMIT 1',
      uses: 'SELECT 1 AS n FROM mounts WHERE device = ? LIMIT 1',
    })
    this.#any = this.#sql.one('any') !== undefined
  }

  /** Whether there may be one. Costs nothing, and is asked often. */
  get any(): boolean {
    return this.#any
  }

  at({ parent, name }: Place): MountedThere | undefined {
    const row = this.#any ? this.#sql.one('one', toSigned(parent), name) : undefined
    return (
      row && {
        device: toUnsigned(row.device as bigint),
        rootIno: toUnsigned(row.root_ino as bigint),
        rootBtimeNs: BigInt(String(row.root_btime)),
      }
    )
  }

  /** In a transaction. Where the disk has no room it is not noted: whoever looks there again does it then. */
  put({ parent, name }: Place, { device, rootIno, rootBtimeNs }: MountedThere): void {
    if (this.#isWithoutRoom()) return
    this.#any = true
    const root = [toSigned(rootIno), String(rootBtimeNs)] as const
    this.#sql.run('put', toSigned(parent), name, toSigned(device), ...root)
  }

  /** The volume has nothing there any more. In a transaction. */
  remove(parent: bigint, name: Buffer): void {
    if (this.#any) this.#sql.run('remove', toSigned(parent), name)
  }

  /** Whether a file system has that number. */
  usesDevice(device: bigint): boolean {
    return this.#any && this.#sql.one('uses', toSigned(device)) !== undefined
  }
}
