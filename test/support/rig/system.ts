import { constants } from 'node:fs'
import { FsError, reasonOf } from '../../../src/base/errors.ts'
import type { Answer, RequestContext } from '../../../src/fuse/operations.ts'
import type { Overlay } from '../../../src/overlay/index.ts'
import { StoreError } from '../../../src/store/errors.ts'
import { Client } from './client.ts'
import { turns } from './clock.ts'
import { Unanswered } from './crash.ts'
import { isDir, type ModelNode, ModelTree } from './model.ts'
import type { Unsynced } from './power.ts'
import type { Rig } from './rig.ts'
import { compareBytes } from './trees.ts'

/** The overlay and the model side by side. The kernel's part (look-ups, open files, repeated requests) is played here. */
export class System {
  readonly rig: Rig
  readonly client: Client
  readonly tree = new ModelTree()
  /** A store that fails makes some answers EIO; then, and only then. */
  faulty = false
  /** A write of a dead daemon or a lost one may have left an object behind that nothing refers to. */
  mayLeak = false
  operations = 0
  /** The steps taken so far. */
  readonly trace: string[] = []

  constructor(rig: Rig) {
    this.rig = rig
    this.client = new Client(rig)
  }

  /** The operation's answer, or the name of its errno. A worker that dies on the way is replaced and asked again. */
  async call<T>(
    operation: (overlay: Overlay, request: RequestContext) => Answer<T>,
  ): Promise<{ readonly answer: T } | { readonly errno: string; readonly why: string }> {
    this.operations += 1
    let unique: bigint | undefined
    for (;;) {
      try {
        return { answer: await this.rig.perform(operation, {}, unique) }
      } catch (error) {
        if (error instanceof Unanswered) {
          unique = error.unique
          await this.rig.restart('worker')
          continue
        }
        if (error instanceof FsError) return { errno: error.code, why: reasonOf(error) }
        if (error instanceof StoreError) return { errno: 'EIO', why: reasonOf(error) }
        throw error
      }
    }
  }

  /** As `call`, compared with what a local file system answers. Returns the answer where there is one. */
  async expect<T>(
    what: string,
    expected: string | undefined,
    operation: (overlay: Overlay, request: RequestContext) => Answer<T>,
    allowed: readonly string[] = [],
  ): Promise<T | undefined> {
    const result = await this.call(operation)
    if ('answer' in result) {
      if (expected !== undefined) throw new Error(`${what}: succeeded instead of ${expected}`)
      return result.answer
    }
    if (result.errno === expected || allowed.includes(result.errno)) return undefined
    if (this.faulty && result.errno === 'EIO') return undefined
    throw new Error(`${what}: ${result.errno} (${result.why}) instead of ${expected ?? 'success'}`)
  }

  /** The overlay's number of a node; looked up as often as the kernel does not have it. */
  async ino(node: ModelNode): Promise<bigint> {
    if (node.known && node.ino !== undefined) return node.ino
    const place = this.tree.placeOf(node)
    if (!place) throw new Error('a node without a name was forgotten')
    const parent = await this.ino(place.directory)
    const result = await this.call((overlay, request) =>
      overlay.lookup(request, parent, Buffer.from(place.name, 'latin1')),
    )
    if (!('answer' in result))
      throw new Error(`lookup of ${this.tree.pathOf(place)}: ${result.errno} instead of success`)
    this.learn(node, result.answer.nodeId)
    return result.answer.nodeId
  }

  learn(node: ModelNode, ino: bigint): void {
    if (node.ino !== undefined && node.ino !== ino) {
      throw new Error(`a file's inode number changed from ${node.ino} to ${ino}`)
    }
    node.ino = ino
    node.known = true
  }

  async open(node: ModelNode): Promise<void> {
    const ino = await this.ino(node)
    const opened = await this.expect('open', undefined, (overlay, request) =>
      overlay.open(request, ino, constants.O_RDWR),
    )
    if (opened) node.handles.push(opened.handle)
  }

  async release(node: ModelNode): Promise<void> {
    const handle = node.handles.pop()
    if (handle === undefined || node.ino === undefined) return
    const { ino } = node
    await this.expect('flush', undefined, (overlay, request) => overlay.flush(request, ino))
    await this.expect('release', undefined, (overlay, request) => overlay.release(request, ino, handle))
    if (node.links === 0 && node.handles.length === 0) this.rig.overlay.forget(ino, 1n << 32n)
    this.tree.closed(node)
  }

  /** No more faults, and nothing under way that met one: a damaged answer may be shared by who asks later. */
  async heal(): Promise<void> {
    const { world } = this.rig
    world.heal()
    await world.deliverLate()
    await turns(20)
    this.faulty = false
  }

  /** The kernel drops every node that is not open. */
  forget(): void {
    const nodes = this.tree.nodes().filter((node) => node !== this.tree.root && node.handles.length === 0)
    // As the kernel does it: a directory only after what is in it.
    for (const node of nodes.reverse()) {
      if (!node.known || node.ino === undefined) continue
      node.known = false
      this.rig.overlay.forget(node.ino, 1n << 32n)
    }
  }

  /** Worker and supervisor died: open files are gone, and with them files without a name. */
  async remount(): Promise<void> {
    // The namespace's lease is asked for before anything is mounted.
    await this.rig.restart('mount')
    this.#nothingIsOpen()
  }

  /** Everything is synced, background work goes on as far as `goOn` lets it, and the power goes. */
  async powerCut(goOn: () => Promise<void>, unsynced: Unsynced): Promise<void> {
    await this.expect('syncfs', undefined, (overlay) => overlay.syncfs())
    await goOn()
    await this.rig.powerCut(unsynced)
    // What the store got behind the last flush is an object that no catalog knows of.
    this.mayLeak = true
    this.#nothingIsOpen()
  }

  #nothingIsOpen(): void {
    for (const node of [...this.tree.nodes(), ...this.tree.nameless]) {
      node.handles.length = 0
      if (node !== this.tree.root) node.known = false
    }
    this.tree.nameless.clear()
  }

  async compareContent(node: ModelNode, offset: number, size: number): Promise<void> {
    const ino = await this.ino(node)
    const bytes = await this.expect('read', undefined, (overlay, request) =>
      overlay.read(request, ino, 0n, offset, size),
    )
    if (!bytes) return
    const difference = compareBytes(bytes, node.content.subarray(offset, offset + size))
    if (difference !== undefined) throw new Error(`read at ${offset}: ${difference}`)
  }

  async compareAttributes(node: ModelNode): Promise<void> {
    const ino = await this.ino(node)
    const answer = await this.expect('getattr', undefined, (overlay, request) =>
      overlay.getattr(request, ino),
    )
    if (!answer) return
    const { mode, uid, gid, nlink, size, mtimeNs } = answer.attributes
    const shown = [mode.toString(8), uid, gid, nlink, isDir(node) ? 0 : size, node.mtimeNs && mtimeNs]
    const wanted = [
      (node.type | node.mode).toString(8),
      node.uid,
      node.gid,
      node.links,
      node.content.length,
      node.mtimeNs,
    ]
    if (String(shown) !== String(wanted)) throw new Error(`attributes: ${shown} instead of ${wanted}`)
  }

  async compareListing(directory: ModelNode, room: number): Promise<void> {
    const ino = await this.ino(directory)
    const names = await this.listing(ino, room)
    const shown = names.map((name) => name.toString('latin1')).sort()
    const wanted = [...directory.children.keys()].sort()
    if (String(shown) !== String(wanted)) throw new Error(`listing: [${shown}] instead of [${wanted}]`)
  }

  /** The listing, begun again where a worker dies on the way. */
  async listing(ino: bigint, room: number): Promise<Buffer[]> {
    for (;;) {
      try {
        return await this.client.list(ino, room)
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error
        await this.rig.restart('worker')
      }
    }
  }
}
