import { constants } from 'node:fs'
import type { AttributeAnswer, KernelNotifier } from '../../../src/fuse/operations.ts'
import { clock } from './clock.ts'
import type { Rig } from './rig.ts'

const PAGE = 4096

interface Page {
  readonly bytes: Buffer
}

/**
 * What a kernel caches of one file, as fs/fuse/file.c and fs/fuse/inode.c do it with FUSE_AUTO_INVAL_DATA: attributes for as long
 * as it was told, pages until an open without FOPEN_KEEP_CACHE, other attributes, or a notification. What is read is cut at the
 * size that it believes. An asynchronous direct write drops pages and attributes when it is sent, and not when it is done.
 */
export class PageCache implements KernelNotifier {
  readonly #rig: Rig
  readonly #node: bigint
  readonly #pages = new Map<number, Page>()
  /** READs under way: their pages are locked. */
  readonly #locked = new Set<Promise<unknown>>()
  /** What the transport leaves to a thread has not come yet. */
  isThreadBusy = false
  #attributes: AttributeAnswer['attributes'] | undefined
  #validUntil = 0

  constructor(rig: Rig, node: bigint) {
    this.#rig = rig
    this.#node = node
    rig.overlay.notifyBy(this)
  }

  /** stat(2) */
  async stat(): Promise<AttributeAnswer['attributes']> {
    if (!this.#attributes || performance.now() >= this.#validUntil) await this.#getattr()
    if (!this.#attributes) throw new Error('no attributes')
    return this.#attributes
  }

  async open(): Promise<bigint> {
    const open = await this.#rig.perform((overlay, request) =>
      overlay.open(request, this.#node, constants.O_RDONLY),
    )
    if (open.keepCache !== true) this.#pages.clear()
    return open.handle
  }

  async close(handle: bigint): Promise<void> {
    await this.#rig.perform((overlay, request) => overlay.release(request, this.#node, handle))
  }

  /** All of the file through the page cache, by an open descriptor. */
  async read(): Promise<Buffer> {
    const { size } = await this.stat()
    const parts: Buffer[] = []
    for (let index = 0; index * PAGE < size; index += 1) {
      const page = this.#pages.get(index) ?? (await this.fetch(index))
      parts.push(page.bytes)
    }
    return Buffer.concat(parts).subarray(0, this.#attributes?.size)
  }

  async openAndRead(): Promise<string> {
    const handle = await this.open()
    const bytes = await this.read()
    await this.close(handle)
    return bytes.toString()
  }

  /** A READ of one page, as read-ahead has it too. `passesTime`: it is waited for here. */
  fetch(index: number, passesTime = true): Promise<Page> {
    const ask = (): Promise<Buffer> =>
      this.#rig.perform(
        (overlay, request) => overlay.read(request, this.#node, 0n, index * PAGE, PAGE, 0),
        {},
        undefined,
        passesTime,
      )
    // A page that could not be read ahead is asked for once more.
    const reading = ask()
      .catch(ask)
      .then((bytes) => {
        const page = { bytes: Buffer.concat([bytes, Buffer.alloc(PAGE - bytes.length)]) }
        this.#pages.set(index, page)
        return page
      })
    this.#locked.add(reading)
    void reading.finally(() => this.#locked.delete(reading)).catch(() => undefined)
    return reading
  }

  /** An asynchronous direct write, until io_getevents(2) has its end. */
  async writeDirect(data: Buffer, passesTime = true): Promise<void> {
    this.#pages.clear()
    this.#validUntil = 0
    await this.#rig.perform(
      (overlay, request) =>
        overlay.write(request, this.#node, 0n, 0, data, { killSuidGid: false, flags: constants.O_DIRECT }),
      {},
      undefined,
      passesTime,
    )
  }

  expireAttributes(node: bigint): void {
    if (node === this.#node) this.#validUntil = 0
  }

  invalidateNode(node: bigint, offset: number): void {
    if (this.isThreadBusy) return
    void this.dropPages(node, offset)
  }

  async dropPages(node: bigint, offset: number): Promise<void> {
    if (node !== this.#node) return
    this.#validUntil = 0
    if (offset < 0) return
    while (this.#locked.size > 0) await Promise.race(this.#locked)
    this.#pages.clear()
  }

  invalidateName(): void {}

  /** Time passes, as far as the kernel's own clock goes. */
  pass(milliseconds: number): void {
    clock.advance(milliseconds)
  }

  async #getattr(): Promise<void> {
    const { attributes, attributeTtlMs } = await this.#rig.perform((overlay, request) =>
      overlay.getattr(request, this.#node),
    )
    const before = this.#attributes
    if (before && (before.size !== attributes.size || before.mtimeNs !== attributes.mtimeNs))
      this.#pages.clear()
    this.#attributes = attributes
    this.#validUntil = performance.now() + attributeTtlMs
  }
}
