import { closeDescriptor } from './files.ts'

interface Slot {
  readonly descriptor: number
  users: number
  retired: boolean
}

/**
 * Open descriptors by file, kept for the next use and closed only when nobody is in the middle of one: a descriptor
 * number that is closed under a pending read may by then belong to another file (P1).
 */
export class DescriptorCache {
  readonly #slots = new Map<bigint, Slot>()
  readonly #capacity: number

  constructor(capacity: number) {
    this.#capacity = capacity
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

  has(ino: bigint): boolean {
    return this.#slots.has(ino)
  }

  /** The next use opens anew. */
  drop(ino: bigint): void {
    const slot = this.#slots.get(ino)
    if (!slot) return
    this.#slots.delete(ino)
    this.#retire(slot)
  }

  clear(): void {
    for (const ino of [...this.#slots.keys()]) this.drop(ino)
  }

  #acquire(ino: bigint, open: () => number): Slot {
    let slot = this.#slots.get(ino)
    if (slot) {
      this.#slots.delete(ino)
    } else {
      slot = { descriptor: open(), users: 0, retired: false }
    }
    this.#slots.set(ino, slot)
    slot.users += 1
    if (this.#slots.size > this.#capacity) this.#evict()
    return slot
  }

  #release(slot: Slot): void {
    slot.users -= 1
    if (slot.retired && slot.users === 0) closeDescriptor(slot.descriptor)
  }

  #evict(): void {
    for (const [ino, slot] of this.#slots) {
      if (slot.users > 0) continue
      this.#slots.delete(ino)
      this.#retire(slot)
      return
    }
  }

  #retire(slot: Slot): void {
    slot.retired = true
    if (slot.users === 0) closeDescriptor(slot.descriptor)
  }
}
