import { isDirectory } from '../base/attributes.ts'
import type { Inode } from './inode.ts'

/** Sums over all files (everything but directories and files without a name). */
export interface Totals {
  files: number
  bytes: number
  /** In the store as they are now. */
  stored: number
  storedBytes: number
  /** Changed since the store saw them, or never copied although changed. */
  dirty: number
  failed: number
  /** In the store and no longer on the legacy volume. */
  drained: number
}

export const NO_TOTALS: Readonly<Totals> = {
  files: 0,
  bytes: 0,
  stored: 0,
  storedBytes: 0,
  dirty: 0,
  failed: 0,
  drained: 0,
}

const KEYS = Object.keys(NO_TOTALS) as (keyof Totals)[]

/** Whether the store holds the file as the catalog last knew it. */
export function isStored(inode: Inode): boolean {
  return inode.version > 0 && inode.dirty === 0
}

/** What one inode adds to the totals. */
export function shareOf(inode: Inode): Readonly<Totals> {
  if (isDirectory(inode.mode) || inode.orphan || inode.nlink === 0) return NO_TOTALS
  const stored = isStored(inode)
  return {
    files: 1,
    bytes: inode.size,
    stored: stored ? 1 : 0,
    storedBytes: stored ? inode.size : 0,
    dirty: inode.dirty !== 0 ? 1 : 0,
    failed: inode.failure === undefined ? 0 : 1,
    drained: stored && inode.authority === 'catalog' && inode.legacyIno === undefined ? 1 : 0,
  }
}

export function isSameShare(one: Readonly<Totals>, other: Readonly<Totals>): boolean {
  return KEYS.every((key) => one[key] === other[key])
}

export function addTo(totals: Totals, share: Readonly<Totals>, sign: 1 | -1): void {
  totals.files += sign * share.files
  totals.bytes += sign * share.bytes
  totals.stored += sign * share.stored
  totals.storedBytes += sign * share.storedBytes
  totals.dirty += sign * share.dirty
  totals.failed += sign * share.failed
  totals.drained += sign * share.drained
}

/** The sum of `shareOf` over all rows, in one pass of SQLite's own: a million files take a fraction of a second. */
export const TOTALS = `
SELECT count(*) AS files, sum(size) AS bytes,
  sum(stored) AS stored, sum(stored * size) AS stored_bytes,
  sum(dirty <> 0) AS dirty, sum(failure IS NOT NULL) AS failed,
  sum(stored AND authority = 1 AND legacy_ino IS NULL) AS drained
FROM (
  SELECT size, dirty, failure, authority, legacy_ino, (version > 0 AND dirty = 0) AS stored
  FROM inodes WHERE (mode & 61440) <> 16384 AND orphan = 0 AND nlink > 0
)`
