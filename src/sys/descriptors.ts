import { closeDescriptor } from './files.ts'

interface Slot {
  readonly ino: bigint
  readonly descriptor: number
  users: number
  /** Nobody gets it any more: it is closed when the last one has done with it, in that tick or by `closeLater`. */
  retired: 'no' | 'now' | 'later'
  /** Of those who wait until it is closed. */
  closed: PromiseWithResolvers<void> | undefined
}

// So many are closed by `closeLater` at once; what comes then is closed at once, so that nobody opens faster than that.
const MOST_CLOSING = 64

/**
 * Open descriptors by file, kept for the next use and closed only when nobody is in the middle of one: a descriptor
 * number that is closed under a pending read may by then belong to another file (P1).
 */
export class DescriptorCache {
  readonly #slots = new Map<bigint, Slot>()
  /** Retired and not closed yet. */
  readonly #leaving = new Map<bigint, Set<Slot>>()
  readonly #capacity: number
  readonly #closeLater: ((descriptor: number) => Promise<void>) | undefined
  #closing = 0

  /** @param closeLater closes what has to make room or is let go of, where that takes too long for a tick */
  constructor(capacity: number, closeLater?: (descriptor: number) => Promise<void>) {
    this.#capacity = capacity
    this.#closeLater = closeLater
  }

  /** Runs `body` with the file's descriptor, opened by `open` if it is not at hand. */
  async use<T>(ino: bigint, open: () => number, body: (descriptor: number) => Promise<T>): Promise<T> {
    const slot = this.#acquire(ino, open)
    try {
      return await body(slot.descriptor)
    } finally {
      this.#release(slot)
    }
  }

  /** The same within one tick. */
  useSync<T>(ino: bigint, open: () => number, body: (descriptor: number) => T): T {
    const slot = this.#acquire(ino, open)
    try {
      return body(slot.descriptor)
    } finally {
      this.#release(slot)
    }
  }

  /** One of them is open. */
  has(ino: bigint): boolean {
    return this.#slots.has(ino) || this.#leaving.has(ino)
  }

  /** The next use opens anew. */
  drop(ino: bigint): void {
    const slot = this.#slots.get(ino)
    if (slot) this.#retire(slot, 'later')
  }

  /**
   * The same, and resolves once none that was open by then is: what is in use is waited for. @throws what `closeLater` throws
   */
  async letGo(ino: bigint): Promise<void> {
    const slot = this.#slots.get(ino)
    if (slot) this.#retire(slot, 'later')
    await Promise.all(
      [...(this.#leaving.get(ino) ?? [])].map((leaving) => {
        leaving.closed ??= Promise.withResolvers()
        return leaving.closed.promise
      }),
    )
  }

  clear(): void {
    for (const slot of [...this.#slots.values()]) this.#retire(slot, 'now')
  }

  #acquire(ino: bigint, open: () => number): Slot {
    let slot = this.#slots.get(ino)
    if (slot) {
      this.#slots.delete(ino)
    } else {
      slot = { ino, descriptor: open(), users: 0, retired: 'no', closed: undefined }
    }
    this.#slots.set(ino, slot)
    slot.users += 1
    if (this.#slots.size > this.#capacity) this.#evict()
    return slot
  }

  #release(slot: Slot): void {
    slot.users -= 1
    if (slot.retired !== 'no' && slot.users === 0) this.#close(slot)
  }

  #evict(): void {
    for (const slot of this.#slots.values()) {
      if (slot.users > 0) continue
      this.#retire(slot, 'later')
      return
    }
  }

  #retire(slot: Slot, retired: 'now' | 'later'): void {
    const { ino } = slot
    this.#slots.delete(ino)
    slot.retired = retired
    const leaving = this.#leaving.get(ino) ?? new Set()
    this.#leaving.set(ino, leaving.add(slot))
    if (slot.users === 0) this.#close(slot)
  }

  #close(slot: Slot): void {
    if (slot.retired === 'now' || !this.#closeLater || this.#closing >= MOST_CLOSING) {
      closeDescriptor(slot.descriptor)
      this.#isClosed(slot).closed?.resolve()
      return
    }
    this.#closing += 1
    this.#closeLater(slot.descriptor).then(
      () => {
        this.#closing -= 1
        this.#isClosed(slot).closed?.resolve()
      },
      (error: unknown) => {
        this.#closing -= 1
        this.#isClosed(slot).closed?.reject(error)
      },
    )
  }

  #isClosed(slot: Slot): Slot {
    const leaving = this.#leaving.get(slot.ino)
    leaving?.delete(slot)
    if (leaving?.size === 0) this.#leaving.delete(slot.ino)
    return slot
  }
}
