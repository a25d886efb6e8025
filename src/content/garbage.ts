import { faultPoint } from '../base/faults.ts'
import { fileId, type Garbage, parseContentKey } from '../catalog/index.ts'
import { StoreSuperseded } from '../store/errors.ts'
import type { ContentContext } from './context.ts'
import { parseShardKey } from './directory-record.ts'
import type { DirectoryWriter } from './directory-writer.ts'
import type { Uploader } from './uploader.ts'

interface Parts {
  readonly uploader: Uploader
  readonly directories: DirectoryWriter
}

/** Deletes objects that nothing needs any more: what is listed as garbage, and ripe. */
export class GarbageCollector {
  readonly #context: ContentContext
  readonly #uploader: Uploader
  readonly #directories: DirectoryWriter

  constructor(context: ContentContext, { uploader, directories }: Parts) {
    this.#context = context
    this.#uploader = uploader
    this.#directories = directories
  }

  /**
   * Deletes an object, unless it is in use again, and forgets that it was listed. @throws StoreError
   */
  async collect(garbage: Garbage): Promise<void> {
    const { catalog, store, epoch } = this.#context
    // Not while the file or the record that the object belonged to is being written: a write would come after it.
    const writer = garbage.space === 'dirs' ? this.#directories : this.#uploader
    await writer.exclusively(garbage.ino, async () => {
      // Needed again, and then once more not, since it was found.
      if (!catalog.outbox.isRipe(garbage)) return
      if (!this.#isReferenced(garbage)) {
        // A shard that was listed before it was written is newer than the list says.
        const version =
          garbage.space === 'dirs'
            ? { epoch, version: catalog.transaction(() => catalog.numbers.nextVersion()) }
            : { epoch: garbage.epoch, version: garbage.version }
        try {
          await store.delete(garbage.space, garbage.key, version)
        } catch (error) {
          // Somebody, most likely we ourselves, has put a newer object there: nothing to delete.
          if (!(error instanceof StoreSuperseded)) throw error
        }
      }
      faultPoint('content.garbage.deleted')
      catalog.transaction(() => catalog.outbox.forget(garbage))
    })
  }

  /** What was listed as garbage by a writing that was cut short may be in use by the one that followed it. */
  #isReferenced(garbage: Garbage): boolean {
    if (garbage.space === 'dirs') return this.#isOfRecord(garbage)
    if (garbage.space !== 'chunks') return false
    const named = parseContentKey(garbage.key)
    const { catalog } = this.#context
    const inode = catalog.get(garbage.ino)
    if (!named || !inode || fileId(inode) !== named.id) return false
    return catalog.content.hash(inode.generation, named.level, named.index)?.toString('hex') === named.hash
  }

  #isOfRecord({ ino, key }: Garbage): boolean {
    const inode = this.#context.catalog.get(ino)
    const place = parseShardKey(key)
    if (!inode || place?.id !== fileId(inode)) return false
    return place.generation === inode.dirGeneration && place.shard < inode.dirShards
  }
}
