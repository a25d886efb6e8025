import { isRegular } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import type { LegacyPlace, OpenWriters } from '../legacy/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { type Stat, printable } from '../sys/index.ts'

/**
 * Whether somebody has the legacy file open or mapped for writing, past the mount: what they write would go with it. It is listed
 * as a failure that says who, which goes with the legacy file once that has ended.
 */
export async function isInUse(
  context: OverlayContext,
  users: OpenWriters,
  inode: Inode,
  found: { readonly place: LegacyPlace; readonly stat: Stat } | undefined,
): Promise<boolean> {
  if (!found || !isRegular(found.stat.mode)) return false
  const { ino } = inode
  if (context.legacyFiles.isHeld(ino)) {
    // By our own supervisor, for a name that was to go and did not, or came back. Nobody takes bytes from there any more; once it
    // has let go of the file, the next sweep sees the others.
    context.legacyFiles.release(ino)
    return true
  }
  await context.legacyFiles.letWritersGo(ino)
  const writers = context.legacyFiles.underLease(ino, (known) => known)
  if (writers === 'none') return false
  // An application has written through the mount meanwhile: the next sweep sees whether there are others.
  if (context.legacyFiles.hasWriters(ino)) return true
  const writer = await users.of(found.stat, found.place.name)
  // A file system without leases: what /proc shows has to do.
  if (!writer && writers === 'unknown') return false
  const who = writer
    ? `process ${writer.pid} (${printable(Buffer.from(writer.name))})`
    : 'a process that cannot be seen from here'
  const error = new FsError(
    'ETXTBSY',
    `in use: ${who} has it open for writing past the mount; it stays on the volume until that has ended`,
  )
  if (context.catalog.get(ino)?.failure === reasonOf(error)) return true
  context.log.warn({ ino: ino.toString(), pid: writer?.pid }, error.message)
  context.carrier.recordFailure(ino, error)
  return true
}
