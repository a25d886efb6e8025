import { requireInRange } from '../base/attribute-ranges.ts'
import { type Attributes, isDirectory } from '../base/attributes.ts'

/** The root directory's inode number in the overlay, whatever the legacy volume calls it (FUSE_ROOT_ID). */
export const ROOT_INO = 1n

/**
 * In the place of an inode number: what the volume has under a name is no file that the catalog knows. It is hidden, and never removed.
 * No file system has a file of this number.
 */
export const UNKNOWN_FILE = (1n << 64n) - 1n

/** Dirty bits: what of a file the store does not have yet. */
export const DIRTY_CONTENT = 1
export const DIRTY_METADATA = 2
/** The store has lost or damaged some of what it acknowledged: all of it is to be written again. */
export const DIRTY_LOST = 4

/** How content lies in the store. */
export const LAYOUT_INLINE = 1
/** Chunks whose list the store has as format 1 wrote it: to be listed anew when the file is written again. */
export const LAYOUT_CHUNKED = 2
/** Chunks whose list names only what is not a hole. */
export const LAYOUT_RUNS = 3

/**
 * What the inode is made of was not in the store, or damaged there, when the catalog was made from it (`rebuild`). With a directory's
 * mode: a part of its record, so nobody knows all of its names. Else all of it: not even what kind of file it was is known.
 */
export const LAYOUT_LOST = 4

/** Nothing is known of the file but its name: whatever is asked of it is EIO, whose reason is in `failure`. */
export function isLost({ layout, mode }: Pick<Inode, 'layout' | 'mode'>): boolean {
  return layout === LAYOUT_LOST && !isDirectory(mode)
}

/** The directory may have had names that nobody knows any more: none is known to be free in it, and its listing has no end but EIO. */
export function lacksNames({ layout, mode }: Pick<Inode, 'layout' | 'mode'>): boolean {
  return layout === LAYOUT_LOST && isDirectory(mode)
}

/** Notes that the store has lost what the inode is made of. */
export function noteLost(inode: Inode, reason: string): void {
  inode.layout = LAYOUT_LOST
  inode.failure = reason
}

export function isChunked({ layout }: Pick<Inode, 'layout'>): boolean {
  return layout === LAYOUT_CHUNKED || layout === LAYOUT_RUNS
}

/** Identifies the state of a legacy file's content and attributes as last copied. */
export interface Fingerprint {
  readonly size: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

/**
 * What the catalog knows of a file. Fields change only inside a catalog transaction, followed by `catalog.save`.
 *
 * `authority` says which side holds the truth. `legacy`: the legacy file; attributes here are a memory of them, the
 * object in the store (if any) is current only if nothing is dirty and the legacy file still has `fingerprint`.
 * `catalog`: this row; attributes, xattrs and link target are here, and a chunk's bytes are in the staging file if it
 * is listed as staged, else (below `baseLimit`) where `base` says, else zeros.
 */
export interface Inode {
  readonly ino: bigint
  /** Unique among all files that ever had this inode number. */
  readonly generation: number
  mode: number
  uid: number
  gid: number
  nlink: number
  rdev: number
  size: number
  blocks: number
  atimeNs: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  /** Those of ioctl_iflags(2) that guard the file (base/inode-flags.ts). */
  flags: number
  authority: 'legacy' | 'catalog'
  /** st_ino on the legacy volume while a file is (or was, until drained) there. */
  legacyIno: bigint | undefined
  /** Number of the device there: 0 for that of the source directory, else as `MountPlaces` has it, whatever the kernel calls it. */
  legacyDev: bigint
  /** Time of birth, 0 where nobody knows it; of a legacy file, part of what it is known by. */
  btimeNs: bigint
  base: 'none' | 'legacy' | 'store'
  /** Chunks with a lower index may come from the base. */
  baseLimit: number
  /** Number of the staging file, 0 if there is none. A number is used once: what is given up is never written again. */
  staged: number
  /**
   * The staging file is to be cut to this size, before anything else is written to it and at recovery. Rows of staged chunks at or
   * behind it are left over, and count for nothing.
   */
  truncating: number | undefined
  dirty: number
  /** Key of the object in the store; kept through renames. */
  key: string | undefined
  /** Version of the object that the store acknowledged last; 0 if none. */
  epoch: number
  version: number
  layout: number
  /** SHA-256 of the inline value or of the manifest. */
  digest: Buffer | undefined
  storedSize: number
  /** Of the legacy file, when the stored version was copied from it. */
  fingerprint: Fingerprint | undefined
  /**
   * Of a legacy file whose content was changed through the overlay since: it is not what the file has, and may go only as long as
   * it is this one. Never beside `fingerprint`.
   */
  superseded: Fingerprint | undefined
  xattrs: Buffer | undefined
  target: Buffer | undefined
  /** No name is left; lives until the last handle is closed. */
  orphan: boolean
  failure: string | undefined
  /** Generation and number of shards of a directory's record in the store; 0 shards if it was never written. */
  dirGeneration: number
  dirShards: number
}

/** Names all objects of one file in the store: unique even when an inode number is used again. */
export function fileId(inode: Pick<Inode, 'ino' | 'generation'>): string {
  return `${inode.ino.toString(16)}-${inode.generation.toString(16)}`
}

/** The inode number in what `fileId` made; `undefined` for what it never makes. */
export function inoOfFileId(id: string): bigint | undefined {
  const [, ino] = /^([0-9a-f]{1,16})-[0-9a-f]+/.exec(id) ?? []
  return ino === undefined ? undefined : BigInt(`0x${ino}`)
}

export function attributesOf(inode: Inode): Attributes {
  return {
    ino: inode.ino,
    mode: inode.mode,
    nlink: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    rdev: inode.rdev,
    size: inode.size,
    blocks: inode.blocks,
    blksize: 4096,
    atimeNs: inode.atimeNs,
    mtimeNs: inode.mtimeNs,
    ctimeNs: inode.ctimeNs,
    ...(inode.btimeNs === 0n ? {} : { btimeNs: inode.btimeNs }),
    ...(inode.flags === 0 ? {} : { flags: inode.flags }),
  }
}

type Column = bigint | string | Uint8Array | null
export type Row = Record<string, Column>

/** Column order of INSERT in catalog.ts. */
export const INODE_COLUMNS =
  'ino generation mode uid gid nlink rdev size blocks atime mtime ctime authority legacy_ino legacy_dev btime base base_limit staged truncating dirty key epoch version layout digest stored_size fp_size fp_mtime fp_ctime xattrs target orphan failure dir_generation dir_shards flags superseded'.split(
    ' ',
  )

const BASES = ['none', 'legacy', 'store'] as const

// SQLite integers are signed; inode numbers are unsigned 64 bits wide.
/** Below every inode number as SQLite sees them. */
export const BEFORE_ALL = -(1n << 63n)

export const toSigned = (ino: bigint): bigint => BigInt.asIntN(64, ino)
export const toUnsigned = (ino: bigint): bigint => BigInt.asUintN(64, ino)

// SQLite has 64 bits for a number. Times that are usual in nanoseconds are one: from the earliest that ext4 and XFS have (-2^31 s) on,
// for 2^64 ns; what is after 2^63 ns is what lies below the earliest. All others are twelve bytes: seconds, then nanoseconds.
const FIRST_NS = -(2n ** 31n) * 1_000_000_000n
const LAST_NS = FIRST_NS + 2n ** 64n - 1n
function timeToColumn(ns: bigint): bigint | Uint8Array {
  if (ns >= FIRST_NS && ns <= LAST_NS) return BigInt.asIntN(64, ns)
  const rest = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  const column = Buffer.alloc(12)
  column.writeBigInt64BE((ns - rest) / 1_000_000_000n)
  column.writeUInt32BE(Number(rest), 8)
  return column
}
function timeFromColumn(value: Column | undefined): bigint {
  const wide = bytes(value)
  if (wide) return wide.readBigInt64BE() * 1_000_000_000n + BigInt(wide.readUInt32BE(8))
  const ns = big(value)
  return ns < FIRST_NS ? ns + 2n ** 64n : ns
}

const number = (value: Column | undefined): number => Number(value ?? 0)
const big = (value: Column | undefined): bigint => BigInt((value as bigint | null | undefined) ?? 0n)
const bytes = (value: Column | undefined): Buffer | undefined =>
  value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : undefined
const text = (value: Column | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined
const isSet = (value: Column | undefined): boolean => value !== null && value !== undefined

export function inodeFromRow(row: Row): Inode {
  const isSuperseded = number(row.superseded) === 1
  const seen = isSet(row.fp_size)
    ? {
        size: number(row.fp_size),
        mtimeNs: timeFromColumn(row.fp_mtime),
        ctimeNs: timeFromColumn(row.fp_ctime),
      }
    : undefined
  return {
    ino: toUnsigned(big(row.ino)),
    generation: number(row.generation),
    mode: number(row.mode),
    uid: number(row.uid),
    gid: number(row.gid),
    nlink: number(row.nlink),
    rdev: number(row.rdev),
    size: number(row.size),
    blocks: number(row.blocks),
    atimeNs: timeFromColumn(row.atime),
    mtimeNs: timeFromColumn(row.mtime),
    ctimeNs: timeFromColumn(row.ctime),
    authority: number(row.authority) === 1 ? 'catalog' : 'legacy',
    legacyIno: isSet(row.legacy_ino) ? toUnsigned(big(row.legacy_ino)) : undefined,
    legacyDev: big(row.legacy_dev),
    btimeNs: timeFromColumn(row.btime),
    base: BASES[number(row.base)] ?? 'none',
    baseLimit: number(row.base_limit),
    staged: number(row.staged),
    truncating: isSet(row.truncating) ? number(row.truncating) : undefined,
    dirty: number(row.dirty),
    key: text(row.key),
    epoch: number(row.epoch),
    version: number(row.version),
    layout: number(row.layout),
    digest: bytes(row.digest),
    storedSize: number(row.stored_size),
    fingerprint: isSuperseded ? undefined : seen,
    superseded: isSuperseded ? seen : undefined,
    xattrs: bytes(row.xattrs),
    target: bytes(row.target),
    orphan: number(row.orphan) === 1,
    failure: text(row.failure),
    dirGeneration: number(row.dir_generation),
    dirShards: number(row.dir_shards),
    flags: number(row.flags),
  }
}

/** @throws FsError for an attribute that is out of its range */
export function inodeToColumns(inode: Inode): Array<bigint | number | string | Uint8Array | null> {
  requireInRange(inode)
  const seen = inode.fingerprint ?? inode.superseded
  return [
    toSigned(inode.ino),
    inode.generation,
    inode.mode,
    inode.uid,
    inode.gid,
    inode.nlink,
    inode.rdev,
    inode.size,
    inode.blocks,
    timeToColumn(inode.atimeNs),
    timeToColumn(inode.mtimeNs),
    timeToColumn(inode.ctimeNs),
    inode.authority === 'catalog' ? 1 : 0,
    inode.legacyIno === undefined ? null : toSigned(inode.legacyIno),
    toSigned(inode.legacyDev),
    timeToColumn(inode.btimeNs),
    BASES.indexOf(inode.base),
    inode.baseLimit,
    inode.staged,
    inode.truncating ?? null,
    inode.dirty,
    inode.key ?? null,
    inode.epoch,
    inode.version,
    inode.layout,
    inode.digest ?? null,
    inode.storedSize,
    seen?.size ?? null,
    seen ? timeToColumn(seen.mtimeNs) : null,
    seen ? timeToColumn(seen.ctimeNs) : null,
    inode.xattrs ?? null,
    inode.target ?? null,
    inode.orphan ? 1 : 0,
    inode.failure ?? null,
    inode.dirGeneration,
    inode.dirShards,
    inode.flags,
    inode.fingerprint === undefined && inode.superseded ? 1 : 0,
  ]
}

/** The inode number as the rows have it, behind which a page begins. */
export const rowBefore = (after: bigint | undefined): bigint =>
  after === undefined ? BEFORE_ALL : toSigned(after)
