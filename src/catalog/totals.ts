import { isDirectory } from '../base/attributes.ts'
import type { Inode, Row } from './inode.ts'

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

/** What the rows of `sums` add up to. */
export function totalsOf(rows: readonly (Row | undefined)[]): Totals {
  const sum = (name: string): number => rows.reduce((sofar, row) => sofar + Number(row?.[name] ?? 0), 0)
  return {
    files: sum('files'),
    bytes: sum('bytes'),
    stored: sum('stored'),
    storedBytes: sum('stored_bytes'),
    dirty: sum('dirty'),
    failed: sum('failed'),
    drained: sum('drained'),
  }
}
