import type { Inode } from './inode.ts'
import { shareOf, type Totals } from './totals.ts'

interface Evicted {
  readonly held: WeakRef<Inode>
  readonly share: Readonly<Totals>
}

/**
 * Inodes in memory. Invariant: one object per inode for as long as anybody holds it, so nobody can save an out-of-date
 * one over a newer one. What is pushed out of the cache is found again as long as it is in use.
 */
export class InodeCache {
  readonly #limit: number
  readonly #inodes = new Map<bigint, Inode>()
  /** What each adds to the totals as it was saved last. */
  readonly #shares = new Map<bigint, Readonly<Totals>>()
  readonly #evicted = new Map<bigint, Evicted>()
  readonly #collected = new FinalizationRegistry<bigint>((ino) => {
    if (this.#evicted.get(ino)?.held.deref() === undefined) this.#evicted.delete(ino)
  })
  /** Handed out since the event loop was here last. */
  readonly #lent = new Set<Inode>()

  constructor(limit: number) {
    this.#limit = limit
  }

  get(ino: bigint): Inode | undefined {
    const inode = this.#inodes.get(ino) ?? this.#revive(ino)
    if (inode) this.#lend(inode)
    return inode
  }

  shareOf(ino: bigint): Readonly<Totals> | undefined {
    return this.#shares.get(ino)
  }

  put(inode: Inode, share: Readonly<Totals> = shareOf(inode)): void {
    this.#inodes.set(inode.ino, inode)
    this.#shares.set(inode.ino, share)
    this.#lend(inode)
  }

  remove(inode: Inode): void {
    this.#inodes.delete(inode.ino)
    this.#shares.delete(inode.ino)
    this.#evicted.delete(inode.ino)
    this.#lend(inode)
  }

  /** Whether the object may be saved: it is the inode's one object, and was asked for in this turn of the event loop. */
  mayChange(inode: Inode): boolean {
    const known = this.#inodes.get(inode.ino) ?? this.#revive(inode.ino)
    return known === undefined || (known === inode && this.#lent.has(inode))
  }

  /**
   * The oldest half goes; what was handed out in this turn, and is perhaps changed and not saved yet, is found again. So a
   * transaction over a whole tree takes no more memory than others.
   */
  evict(): void {
    if (this.#inodes.size < this.#limit) return
    let drop = Math.ceil(this.#limit / 2)
    for (const [ino, inode] of this.#inodes) {
      if (drop-- === 0) break
      this.#evicted.set(ino, { held: new WeakRef(inode), share: this.#shares.get(ino) ?? shareOf(inode) })
      this.#collected.register(inode, ino)
      this.#inodes.delete(ino)
      this.#shares.delete(ino)
    }
  }

  /**
   * After changes were rolled back: every object that can have been changed is what `read` gives again. Only those of this
   * turn of the event loop can (see `mayChange`).
   */
  restore(read: (ino: bigint) => Inode | undefined): void {
    for (const inode of this.#lent) {
      const saved = read(inode.ino)
      if (saved?.generation === inode.generation) {
        this.put(Object.assign(inode, saved))
      } else {
        if (this.#evicted.get(inode.ino)?.held.deref() === inode) this.#evicted.delete(inode.ino)
        if (this.#inodes.get(inode.ino) !== inode) continue
        this.#inodes.delete(inode.ino)
        this.#shares.delete(inode.ino)
      }
    }
  }

  #lend(inode: Inode): void {
    if (this.#lent.size === 0) queueMicrotask(() => this.#lent.clear())
    this.#lent.add(inode)
  }

  #revive(ino: bigint): Inode | undefined {
    const evicted = this.#evicted.get(ino)
    if (!evicted) return undefined
    this.#evicted.delete(ino)
    const inode = evicted.held.deref()
    if (inode) this.put(inode, evicted.share)
    return inode
  }
}
