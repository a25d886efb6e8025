import type { Attributes } from '../../base/attributes.ts'
import { reasonOf } from '../../base/errors.ts'
import { StoreError } from '../../store/errors.ts'

/** What a file is asked for with: its number, and which of the files that ever had that number. */
export interface FileRef {
  readonly ino: bigint
  readonly generation: number
}

/** A file of a tree that is written out, with everything but its content. */
export interface TreeFile extends FileRef {
  readonly attributes: Attributes
  /** As `encodeXattrs` makes it. */
  readonly xattrs: Buffer | undefined
  /** Of a symlink. */
  readonly target: Buffer | undefined
  /** Changes with every change of the file. */
  readonly stamp: string
  /** Its data where that is not more than one chunk. */
  readonly chunks?: readonly TreeChunk[] | undefined
  /** It may be older than what was acknowledged: what is known of that. */
  readonly doubt?: string | undefined
}

/** What is known of a tree before it is gone through. */
export interface TreeTotals {
  readonly files: number
  readonly bytes: number
  /** Why it may be older than what was acknowledged, and lack names. */
  readonly losses?: readonly string[] | undefined
}

/** What content is asked for with: of this very state of the file. */
export type FileState = Pick<TreeFile, 'ino' | 'generation' | 'stamp'>

/** One name of a directory; `reason` in the place of a file that cannot be looked at. */
export type TreeEntry = { readonly name: Buffer } & (
  | { readonly file: TreeFile; readonly reason?: undefined }
  | { readonly file?: undefined; readonly reason: string }
)

/** A part of a listing. `next` goes on behind it; undefined at the end. */
export interface TreePage {
  readonly entries: readonly TreeEntry[]
  readonly next: string | undefined
}

/** A chunk that is not a hole, with the SHA-256 of its bytes where that is known without reading them. */
export interface TreeChunk {
  readonly index: number
  readonly hash: Buffer | undefined
}

export interface TreeChunks {
  readonly chunks: readonly TreeChunk[]
  /** The index to go on from; undefined at the end. */
  readonly next: number | undefined
}

/**
 * A tree to be written out, wherever it is read: in this process, or from a daemon. Nothing of it is changed by reading. A page
 * and a list of chunks are small, whatever the size of a directory or a file (P6).
 */
export interface SourceTree {
  /** How much there is to do, as far as it is known. */
  totals(): Promise<TreeTotals>
  root(): Promise<TreeFile>
  list(directory: FileRef, from?: string): Promise<TreePage>
  /** The file under a name now; undefined if there is none. */
  look(directory: FileRef, name: Buffer): Promise<TreeEntry | undefined>
  /** Chunks with data, ascending from an index on. What is not among them is a hole: nobody goes over those one by one. */
  chunks(file: FileState, from: number): Promise<TreeChunks>
  /** A chunk's bytes, all that the file has in it. @throws StoreError, FsError, SourceError if they cannot be had */
  read(file: FileState, index: number, signal?: AbortSignal): Promise<Buffer>
  /** The file's stamp now; undefined while it is being changed, or when it is gone. */
  stamp(file: FileRef): Promise<string | undefined>
  /** Resolves if the store answers. @throws StoreError, SourceError */
  ping(): Promise<void>
}

/**
 * `away`: the store does not answer, another try may succeed. `changed`: the file is not in the state that was asked for. `gone`: the
 * source itself will not answer any more.
 */
type SourceFailure = 'away' | 'changed' | 'gone' | 'other'

/** The source does not give what it was asked for. */
export class SourceError extends Error {
  readonly kind: SourceFailure

  constructor(kind: SourceFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SourceError'
    this.kind = kind
  }

  static from(error: unknown): SourceError {
    if (error instanceof SourceError) return error
    const isAway = error instanceof StoreError && error.retryable
    return new SourceError(isAway ? 'away' : 'other', reasonOf(error), { cause: error })
  }
}
