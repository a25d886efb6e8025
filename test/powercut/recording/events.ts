import { readFileSync } from 'node:fs'

/** As `enum kind` of shim.h. */
const KINDS = [
  'none',
  'write',
  'truncate',
  'create',
  'unlink',
  'rename',
  'link',
  'fsync',
  'fdatasync',
  'syncfs',
  'attributes',
  'setxattr',
  'removexattr',
  'fallocate',
  'mark',
] as const
type Kind = (typeof KINDS)[number]

/** What the inode says; times in nanoseconds. */
export interface InodeState {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  readonly atimeNs: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly btimeNs: bigint
}

/** One call that was carried out, or a mark of the harness. */
export interface Event {
  /** Position in the recording, from 0. */
  readonly seq: number
  readonly kind: Kind
  readonly ino: number
  /** Directory of `name`. */
  readonly parent: number
  /** Directory of `name2`. */
  readonly parent2: number
  /** The file that a rename replaced or changed places with; 0 for none. */
  readonly other: number
  readonly name: string
  readonly name2: string
  /** What the file was afterwards (before, where it was removed). */
  readonly state: InodeState
  /** Times of the directories afterwards. */
  readonly parentTimeNs: bigint
  /** Time of change of `other` afterwards. */
  readonly otherTimeNs: bigint
  /** Offset of a write, size of a truncation, mode of an allocation, flags of a rename. */
  readonly a: number
  /** Offset and length of an allocation. */
  readonly b: number
  readonly c: number
  readonly data: Buffer
}

const HEAD = 23 * 8

/** All events of a log of the shim. */
export function readEvents(path: string): Event[] {
  return parseEvents(readFileSync(path))
}

function parseEvents(log: Buffer): Event[] {
  const events: Event[] = []
  for (let at = 0; at < log.length; ) {
    const field = (index: number): number => Number(log.readBigUInt64LE(at + index * 8))
    const time = (index: number): bigint => log.readBigInt64LE(at + index * 8)
    const [nameLength, name2Length, dataLength] = [field(20), field(21), field(22)]
    const name = at + HEAD
    const name2 = name + nameLength
    const data = name2 + name2Length
    events.push({
      seq: events.length,
      kind: KINDS[field(1)] ?? 'none',
      ino: field(3),
      parent: field(4),
      parent2: field(5),
      other: field(6),
      name: log.toString('latin1', name, name2),
      name2: log.toString('latin1', name2, data),
      state: {
        mode: field(7),
        uid: field(8),
        gid: field(9),
        rdev: field(11),
        atimeNs: time(12),
        mtimeNs: time(13),
        ctimeNs: time(14),
        btimeNs: time(15),
      },
      parentTimeNs: time(16),
      otherTimeNs: field(1) === KINDS.indexOf('rename') ? time(18) : 0n,
      a: Number(time(17)),
      b: field(18),
      c: field(19),
      data: log.subarray(data, data + dataLength),
    })
    at += field(0)
  }
  return events
}
