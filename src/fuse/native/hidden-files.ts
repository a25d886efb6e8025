import type { Held, Place } from './nodes.ts'
import { splitPath } from './paths.ts'

/** As hidden_name() in lib/fuse.c of libfuse 2.9 makes them: its number of the file, and a count. */
const HIDDEN_NAME = /^\.fuse_hidden[0-9a-f]{8}([0-9a-f]{8})$/

/** A rename that replaces an open file comes right behind its hiding; what has not come by then was an unlink. */
const SETTLE_MS = 50

interface HiddenFile extends Place {
  readonly held: Held
}

interface Entry extends HiddenFile {
  /** The name that was unlinked or replaced. */
  readonly original: string
  settled: Promise<void> | undefined
}

/**
 * libfuse 2 does not unlink an open file, nor rename over one: it renames the file to `.fuse_hidden…` in the same
 * directory and unlinks that name when the last handle is closed. Meanwhile it would be seen in listings, keep its
 * directory from being removed, and outlive a crash.
 *
 * Here the hidden name is unlinked a moment after, while the path goes on to mean the file for libfuse. Not at once: if
 * the hiding was the first half of a rename, nothing may be lost when this process is killed between the halves, so the
 * replaced file is only unlinked when the new one is in its place.
 */
export class HiddenFiles {
  readonly #files = new Map<string, Entry>()
  readonly #unlink: (parent: Held, name: Buffer) => Promise<void>
  readonly #timers = new Set<NodeJS.Timeout>()
  #lastCount = 0

  constructor(unlink: (parent: Held, name: Buffer) => Promise<void>) {
    this.#unlink = unlink
  }

  /** The node of a file that libfuse has hidden under this path. */
  nodeAt(path: string): bigint | undefined {
    return this.#files.get(path)?.held.node
  }

  /**
   * Whether libfuse renames to hide. Its count only rises, so that a file of somebody else's mount that is renamed to such
   * a name by a program is not taken for one.
   */
  isHiding(from: string, to: string): boolean {
    const target = splitPath(to)
    const count = Number.parseInt(HIDDEN_NAME.exec(target.name)?.[1] ?? '0', 16)
    if (count <= this.#lastCount || splitPath(from).directory !== target.directory) return false
    this.#lastCount = count
    return true
  }

  add(original: string, path: string, file: HiddenFile): void {
    const entry: Entry = { ...file, original, settled: undefined }
    this.#files.set(path, entry)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      void this.#settle(entry)
    }, SETTLE_MS)
    this.#timers.add(timer)
  }

  #settle(entry: Entry): Promise<void> {
    entry.settled ??= this.#unlink(entry.parent, entry.name).finally(() => entry.parent.release())
    return entry.settled
  }

  async #settleWhere(wanted: (path: string, entry: Entry) => boolean): Promise<void> {
    for (const [path, entry] of [...this.#files]) if (wanted(path, entry)) await this.#settle(entry)
  }

  /** The rename came: the new file is in its place. */
  settleReplaced(path: string): Promise<void> {
    return this.#settleWhere((_path, { original }) => original === path)
  }

  /** The directory is listed or removed: the kernel lets that begin only when the unlink or rename has ended. */
  settleIn(directory: string): Promise<void> {
    return this.#settleWhere((path) => splitPath(path).directory === directory)
  }

  async settleAll(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
    await this.#settleWhere(() => true)
  }

  /** The last handle of the file is closed. libfuse does not unlink its name if the directory is gone already. */
  async closed(node: bigint): Promise<void> {
    for (const [path, { held }] of [...this.#files]) if (held.node === node) await this.forget(path)
  }

  /** libfuse unlinks the hidden name, because the last handle is closed. False if it is no hidden file. */
  async forget(path: string): Promise<boolean> {
    const entry = this.#files.get(path)
    if (!entry) return false
    await this.#settle(entry)
    this.#files.delete(path)
    entry.held.release()
    return true
  }
}
