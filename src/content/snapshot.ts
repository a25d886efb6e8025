import { type Inode, DIRTY_CONTENT, DIRTY_LOST } from '../catalog/index.ts'
import type { Stat } from '../sys/index.ts'
import type { FileRecord } from './manifest.ts'

/** Content has to be looked at. */
export const CHANGED = DIRTY_CONTENT | DIRTY_LOST

/** A file as an upload found it: what it is a copy of. */
export interface Snapshot {
  readonly record: FileRecord
  /** Where the legacy file is the authority. */
  readonly stat: Stat | undefined
  readonly target: Buffer | undefined
  /** Where the catalog's own chunks came from. */
  readonly base: Pick<Inode, 'base' | 'fingerprint'>
  /** Content need not be read: only attributes changed since the store saw it. */
  readonly sameContent: boolean
}
