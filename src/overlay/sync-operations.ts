import { isRegular } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { requireLegacy } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import { closeDescriptor, printable, syncDescriptor, syncFileSystem } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'
import type { Handles } from './handles.ts'
import type { Names } from './names.ts'
import type { Waits } from './waits.ts'

interface Parts {
  readonly names: Names
  readonly handles: Handles
  readonly waits: Waits
}

/** Requests that make durable what was written. */
export class SyncOperations {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #handles: Handles
  readonly #waits: Waits

  constructor(context: OverlayContext, { names, handles, waits }: Parts) {
    this.#context = context
    this.#names = names
    this.#handles = handles
    this.#waits = waits
  }

  async file(request: RequestContext, node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    const { catalog, writer } = this.#context
    const inode = this.#names.inode(node)
    // A file that the catalog took over has bytes on the volume that may have been written a moment ago.
    const onVolume = inode.authority === 'legacy' || inode.base === 'legacy'
    if (onVolume && isRegular(inode.mode)) await this.#syncLegacy(node, handle, dataOnly)
    if (inode.authority !== 'legacy') await writer.sync(node)
    await catalog.flush()
    await this.#waits.acknowledged(request, node)
  }

  async #syncLegacy(node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    const { catalog, legacyFiles, failedSyncs } = this.#context
    try {
      await legacyFiles.sync(node, dataOnly)
    } catch (error) {
      this.#handles.hearsOfFailedSync(node, handle)
      const path = catalog.links.pathOf(node)
      failedSyncs.note(
        path ? printable(path) : `(inode ${node})`,
        `it could not be synced: ${reasonOf(error)}`,
        error,
      )
      throw error
    }
    if (this.#handles.hearsOfFailedSync(node, handle))
      throw new FsError('EIO', 'a sync of the legacy file failed, and some of what was written may be lost')
  }

  async directory(node: bigint, dataOnly: boolean): Promise<void> {
    const inode = this.#names.inode(node)
    if (inode.authority === 'legacy' && !inode.orphan) {
      const descriptor = requireLegacy(this.#context).openDirectory(node)
      try {
        await syncDescriptor(descriptor, dataOnly)
      } finally {
        closeDescriptor(descriptor)
      }
    }
    await this.#context.catalog.flush()
  }

  async everything(): Promise<void> {
    const { catalog, writer } = this.#context
    const legacy = this.#context.legacy()
    if (legacy && this.#context.policy().writeTo === 'legacy') {
      const descriptor = legacy.openDirectory(1n)
      try {
        await syncFileSystem(descriptor)
      } finally {
        closeDescriptor(descriptor)
      }
    }
    const failed: unknown[] = []
    for (const ino of catalog.lists.staged()) {
      await writer.sync(ino).catch((error: unknown) => failed.push(error))
    }
    await catalog.flush()
    // One file whose bytes are lost is no reason not to sync the others.
    if (failed.length > 0) throw failed[0]
  }
}
