import type { Run } from './cells.ts'

/** What a reader is asked to do. Paths are below the mount. */
export type Question =
  | { readonly ask: 'read'; readonly path: string }
  | { readonly ask: 'list'; readonly path: string }
  | { readonly ask: 'stat' | 'xattr' | 'flags'; readonly path: string }
  /** Opens the file, reads it and keeps it open. */
  | { readonly ask: 'hold'; readonly path: string; readonly slot: number }
  /** Reads again what it keeps open. */
  | { readonly ask: 'readHeld'; readonly slot: number }

/** What it has seen, between two moments of the machine's monotonic clock, in nanoseconds. */
export interface Seen {
  readonly from: number
  readonly to: number
  /** Where a call failed; all else is missing then. */
  readonly errno?: string
  readonly runs?: readonly Run[]
  readonly size?: number
  readonly mode?: number
  readonly value?: number
  /** Of a look at attributes. */
  readonly isDirectory?: boolean
  readonly names?: readonly string[]
}

/** The machine's monotonic clock, the same for all processes, in nanoseconds. */
export const clockNs = (): number => Number(process.hrtime.bigint())

/** The extended attribute that says which version set it. */
export const VERSION_XATTR = Buffer.from('user.version')
