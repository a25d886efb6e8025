import type { Fingerprint } from '../catalog/index.ts'
import { LookUpCounts, MOST_COUNTED } from './look-up-counts.ts'

// What is known in full; of others, which the kernel has looked up and nobody does anything with, only how often.
const MOST_NODES = 16_384
// Looked at for room in one go.
const AT_ONCE = 64

interface CopiedBytes {
  readonly length: number
  areChanged: boolean
}

/** What this process knows of a file in use; nothing of it has to survive the process. */
export interface NodeActivity {
  /** Look-ups that the kernel has not taken back. */
  lookups: bigint
  /** The kernel has dropped the node, whatever a predecessor of this process had told it; until the next look-up. */
  forgotten: boolean
  /** Handles opened and not released, as far as this process saw them. */
  opens: number
  /** Of these, the ones that may write. */
  writers: number
  /** Counts every change of content or attributes; equal numbers around a copy mean that nothing moved. */
  changes: number
  /** Changes that have begun and not ended, and the first byte that one of them may change. */
  changing: number
  changingFrom: number
  /** The first bytes of the file that somebody copies, and whether any of them may have changed since. */
  copied: CopiedBytes | undefined
  /** Writes to the legacy file under way; the catalog cannot take the file over before they have landed. */
  volumeWrites: number
  /** When the last change ended, in milliseconds of performance.now(). */
  lastChange: number
  /** Keeps the record while somebody compares `changes`. */
  pins: number
  /** What the kernel's page cache holds, as told at the last open. */
  cacheTag: string | undefined
  /** The file as it was when it was last looked at while open. */
  seen: Fingerprint | undefined
  /** READs that put pages into the kernel's cache, and how many there had been when it was last made to drop them. */
  pageReads: number
  droppedReads: number
}

/** Use of all files, by inode number. */
export class Activity {
  readonly #nodes = new Map<bigint, NodeActivity>()
  readonly #idle = new LookUpCounts()
  readonly #landing = new Map<bigint, Array<() => void>>()
  /** Called when nobody uses a file any more. */
  onUnused: (ino: bigint) => void = () => undefined
  /** Called when the catalog gives a file back to the volume. */
  onGivenBack: (ino: bigint) => void = () => undefined
  /** Called in the transaction in which the catalog has become the authority on a file. */
  onOwned: (ino: bigint) => void = () => undefined

  /** Not to be kept over an `await` but by who has it open, is changing it or pins it. */
  of(ino: bigint): NodeActivity {
    let node = this.#nodes.get(ino)
    if (!node) {
      if (this.#nodes.size >= MOST_NODES) this.#makeRoom()
      node = {
        lookups: BigInt(this.#idle.take(ino)),
        forgotten: false,
        opens: 0,
        writers: 0,
        changes: 0,
        changing: 0,
        changingFrom: 0,
        copied: undefined,
        volumeWrites: 0,
        lastChange: 0,
        pins: 0,
        cacheTag: undefined,
        seen: undefined,
        // Of earlier ones nothing is known.
        pageReads: 1,
        droppedReads: 0,
      }
      this.#nodes.set(ino, node)
    }
    return node
  }

  peek(ino: bigint): NodeActivity | undefined {
    return this.#nodes.get(ino) ?? (this.#idle.has(ino) ? this.of(ino) : undefined)
  }

  /** How many files are known: in full, and as looked up. */
  get size(): { readonly full: number; readonly lookedUp: number } {
    return { full: this.#nodes.size, lookedUp: this.#idle.size }
  }

  /**
   * The kernel keeps millions of files looked up that nobody uses. Of those that were used longest ago only the count stays; what
   * the page cache holds of them is read again when they are opened.
   */
  #makeRoom(): void {
    let left = AT_ONCE
    for (const [ino, node] of this.#nodes) {
      if (left-- === 0) break
      this.#nodes.delete(ino)
      if (isIdle(node)) this.#idle.set(ino, Number(node.lookups))
      else this.#nodes.set(ino, node)
    }
  }

  /** The file changes within this tick. */
  changed(ino: bigint): void {
    const node = this.#nodes.get(ino)
    if (!node) return
    node.changes += 1
    node.lastChange = performance.now()
    if (node.copied) node.copied.areChanged = true
  }

  /** From now on it counts whether any of the file's first bytes changes; of one copy at a time. Its node is pinned. */
  watchBytes(node: NodeActivity, length: number): CopiedBytes {
    node.copied = { length, areChanged: node.changing > 0 && node.changingFrom < length }
    return node.copied
  }

  /**
   * Runs a change that takes more than one tick; a copy that overlaps it is not taken for the file's content.
   * @param from no byte before this one changes, nor any attribute but size and times: what has been copied of those stays right
   */
  async during<T>(ino: bigint, body: () => Promise<T>, from = 0): Promise<T> {
    const node = this.of(ino)
    node.changingFrom = node.changing > 0 ? Math.min(node.changingFrom, from) : from
    if (node.copied && from < node.copied.length) node.copied.areChanged = true
    node.changing += 1
    node.changes += 1
    try {
      return await body()
    } finally {
      node.changing -= 1
      node.changes += 1
      node.lastChange = performance.now()
    }
  }

  /** Runs a write to the legacy file. */
  async writingVolume<T>(ino: bigint, body: () => Promise<T>, from = 0): Promise<T> {
    const node = this.of(ino)
    node.volumeWrites += 1
    try {
      return await this.during(ino, body, from)
    } finally {
      node.volumeWrites -= 1
      if (node.volumeWrites === 0) {
        const waiters = this.#landing.get(ino) ?? []
        this.#landing.delete(ino)
        for (const waiter of waiters) waiter()
      }
    }
  }

  /** Whether writes to the legacy file are under way. */
  isWritingVolume(ino: bigint): boolean {
    return (this.#nodes.get(ino)?.volumeWrites ?? 0) > 0
  }

  /** Resolves when no write to the legacy file is under way. */
  async landed(ino: bigint): Promise<void> {
    while (this.isWritingVolume(ino)) {
      await new Promise<void>((resolve) => {
        const waiters = this.#landing.get(ino)
        if (waiters) waiters.push(resolve)
        else this.#landing.set(ino, [resolve])
      })
    }
  }

  /** Forgets what is not in use any more. */
  settle(ino: bigint): void {
    const node = this.#nodes.get(ino)
    if (node && node.lookups <= 0n && node.opens <= 0 && node.changing === 0 && node.pins === 0) {
      this.onUnused(ino)
      this.#nodes.delete(ino)
    }
  }
}

function isIdle(node: NodeActivity): boolean {
  const isUsed =
    node.opens > 0 || node.writers > 0 || node.changing > 0 || node.volumeWrites > 0 || node.pins > 0
  return !isUsed && !node.forgotten && node.lookups > 0n && node.lookups <= MOST_COUNTED
}
