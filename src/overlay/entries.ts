import type { Inode } from '../catalog/index.ts'
import type { AttributeAnswer, Entry } from '../fuse/operations.ts'
import type { AttributeOperations } from './attributes.ts'
import type { OverlayContext } from './context.ts'
import { CATALOG_TTL_MS, type KernelCache, LEGACY_TTL_MS } from './kernel-cache.ts'
import type { Names, Resolved } from './names.ts'

interface Parts {
  readonly names: Names
  readonly attributes: AttributeOperations
  readonly cache: KernelCache
}

/** What the kernel is told of files, and for how long it may believe that. */
export class Entries {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #attributes: AttributeOperations
  readonly #cache: KernelCache

  constructor(context: OverlayContext, { names, attributes, cache }: Parts) {
    this.#context = context
    this.#names = names
    this.#attributes = attributes
    this.#cache = cache
  }

  /** The reply for a name: counts as one look-up. */
  of({ inode, stat }: Resolved): Entry {
    const activity = this.#context.activity.of(inode.ino)
    activity.lookups += 1n
    activity.forgotten = false
    const known = stat ? { ...stat, ino: inode.ino } : undefined
    const attributes = known ?? this.#attributes.get(inode.ino)
    this.#cache.tell(inode, attributes)
    return {
      nodeId: inode.ino,
      generation: BigInt(inode.generation),
      attributes,
      entryTtlMs: ttlOf(inode),
      attributeTtlMs: ttlOf(inode),
    }
  }

  /** The reply for a file without a look at its name. */
  ofInode(ino: bigint): Entry {
    return this.of({ inode: this.#names.inode(ino), stat: undefined })
  }

  /** The reply for a file's attributes. */
  attributes(node: bigint): AttributeAnswer {
    const attributes = this.#attributes.get(node)
    const inode = this.#names.inode(node)
    this.#cache.tell(inode, attributes)
    return { attributes, attributeTtlMs: ttlOf(inode) }
  }
}

const ttlOf = (inode: Inode): number => (inode.authority === 'catalog' ? CATALOG_TTL_MS : LEGACY_TTL_MS)
