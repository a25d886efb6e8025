import type { DirectoryEntry, DirectorySink, FileSystem, RequestContext } from '../operations.ts'
import { inode32 } from './convert.ts'
import type { ListedStat } from './library.ts'

/** Names with their type and inode number, at the same place in both. */
export interface Listing {
  readonly names: string[]
  readonly stats: ListedStat[]
}

/** Names taken from the file system in one go, so that others get their turn in between. */
const BATCH = 1024

class Batch implements DirectorySink {
  readonly plus = false
  readonly items: DirectoryEntry[] = []

  hasRoom(): boolean {
    return this.items.length < BATCH
  }

  add(item: DirectoryEntry): void {
    this.items.push(item)
  }

  clear(): void {
    this.items.length = 0
  }
}

/**
 * All entries of a directory. A name that is not UTF-8 is listed with U+FFFD in it, and refused when it is asked for: a
 * program that copies the tree hears of it.
 */
export async function collectDirectory(
  fileSystem: FileSystem,
  context: RequestContext,
  node: bigint,
): Promise<Listing> {
  const names: string[] = []
  const stats: ListedStat[] = []
  const { handle } = await fileSystem.opendir(context, node, 0)
  try {
    for (let cookie = 0n; ; ) {
      const batch = new Batch()
      await fileSystem.readdir(context, node, handle, cookie, batch)
      const last = batch.items.at(-1)
      if (!last) return { names, stats }
      for (const { name, ino, type } of batch.items) {
        names.push(name.toString('utf8'))
        stats.push({ mode: type << 12, ino: inode32(ino) })
      }
      cookie = last.cookie
    }
  } finally {
    await fileSystem.releasedir(context, node, handle)
  }
}
