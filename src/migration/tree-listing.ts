import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { requireLegacy } from '../content/index.ts'
import { isMissingDisk } from '../legacy/index.ts'
import type { Overlay, OverlayContext } from '../overlay/index.ts'
import { closeDescriptor, directoryFrom } from '../sys/index.ts'

const ROWS_AT_ONCE = 128
const BEFORE_ALL = Buffer.alloc(0)

/** Where a listing goes on: first come the names that the catalog has, then those that only the volume has. */
interface Position {
  /** What is met for the first time since the listing began has this generation or a higher one. */
  readonly since: number
  /** The name behind which the catalog's go on; undefined once they are all listed. */
  readonly after: Buffer | undefined
  /** Where the volume's go on. */
  readonly offset: bigint
}

interface Candidate {
  readonly name: Buffer
  /** The position behind it. */
  readonly next: string
}

/** Some names that a directory may show, to be looked up, and where the listing goes on; undefined at its end. */
export interface Candidates {
  readonly names: readonly Candidate[]
  readonly next: string | undefined
}

/**
 * The next names of a directory of any size, in small parts. What is there all the time is among them at least once; what the
 * overlay met only after its part of the catalog had been listed comes with the volume's names.
 * @throws FsError where the volume does not say what it has
 */
export function candidatesFrom(
  context: OverlayContext,
  overlay: Overlay,
  directory: Inode,
  from: string | undefined,
): Candidates {
  const start =
    from === undefined
      ? { since: context.catalog.numbers.upcomingGeneration, after: BEFORE_ALL, offset: 0n }
      : parsePosition(from)
  if (start.after === undefined) return onVolume(context, directory, start)
  const rows = context.catalog.dirents.on(directory.ino, start.after, ROWS_AT_ONCE)
  const position = (after: Buffer | undefined): string => formatPosition({ ...start, after })
  const names = rows
    .filter(({ ino }) => ino !== undefined)
    .map(({ name }) => ({ name, next: position(name) }))
  const last = rows.at(-1)
  if (last && rows.length === ROWS_AT_ONCE) return { names, next: position(last.name) }
  return { names, next: overlay.names.hasVolume(directory) ? position(undefined) : undefined }
}

function onVolume(context: OverlayContext, directory: Inode, start: Position): Candidates {
  const { catalog, policy } = context
  let descriptor: number
  try {
    descriptor = requireLegacy(context).openDirectory(directory.ino)
  } catch (error) {
    // As the overlay lists it: what is left of a directory that went is in the catalog, and so is what the store has.
    if (isMissingDisk(error) && directory.dirShards === 0) throw error
    const code = error instanceof FsError ? error.code : undefined
    const isGone = (code === 'ENOENT' || code === 'ENOTDIR') && directory.authority === 'catalog'
    if (isGone || (code === 'EIO' && policy().readFrom === 'store')) return { names: [], next: undefined }
    throw error
  }
  try {
    const { entries, next } = directoryFrom(descriptor, start.offset)
    const position = (offset: bigint): string => formatPosition({ ...start, offset })
    const names = entries
      .filter(({ name }) => isNew(catalog, directory.ino, name, start.since))
      .map((entry) => ({ name: entry.name, next: position(entry.next) }))
    return { names, next: next === undefined ? undefined : position(next) }
  } finally {
    closeDescriptor(descriptor)
  }
}

/** Whether the name was not, or may not have been, among those of the catalog. */
function isNew(catalog: OverlayContext['catalog'], directory: bigint, name: Buffer, since: number): boolean {
  const dirent = catalog.dirents.get(directory, name)
  if (!dirent) return true
  const inode = dirent.ino === undefined ? undefined : catalog.get(dirent.ino)
  return inode !== undefined && inode.generation >= since
}

function formatPosition({ since, after, offset }: Position): string {
  return `${since}:${after === undefined ? `@${offset}` : after.toString('hex')}`
}

/** @throws FsError EINVAL for what is no position */
function parsePosition(text: string): Position {
  const [, since, offset, name] = /^(\d{1,16}):(?:@(-?\d{1,20})|((?:[0-9a-f]{2})*))$/.exec(text) ?? []
  if (since === undefined) throw new FsError('EINVAL', 'no position in a listing')
  return {
    since: Number(since),
    after: offset === undefined ? Buffer.from(name ?? '', 'hex') : undefined,
    offset: BigInt(offset ?? 0),
  }
}
