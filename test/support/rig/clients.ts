import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { FsError, reasonOf } from '../../../src/base/errors.ts'
import type { Mode } from '../../../src/base/modes.ts'
import type { Answer, DirectorySink, RequestContext } from '../../../src/fuse/operations.ts'
import { ModeRefused } from '../../../src/migration/mode-switch.ts'
import type { Overlay } from '../../../src/overlay/index.ts'
import type { KeySpace } from '../../../src/store/contract.ts'
import { StoreError } from '../../../src/store/errors.ts'
import { Client, type Described } from './client.ts'
import { Unanswered } from './crash.ts'
import type { Fault } from './fault-store.ts'
import { fillDisk, freeDisk } from './full-disk.ts'
import { History } from './history.ts'
import { isDir, type ModelNode, ModelTree, type Place } from './model.ts'
import { NameLock } from './name-lock.ts'
import type { Rig } from './rig.ts'
import type { Schedule } from './schedule.ts'
import { diskTree } from './trees.ts'
import { allowNames, type NamingErrno, refuseNames } from './volume-calls.ts'

const { S_IFDIR, S_IFREG, S_IFLNK } = constants
const ROOT = 1n

/** One thing that a client or the world around does; files are named by directory and name. */
export type Act =
  | { readonly act: 'read'; readonly file: string; readonly at: number; readonly size: number }
  | { readonly act: 'write'; readonly file: string; readonly at: number; readonly size: number }
  | { readonly act: 'append'; readonly file: string; readonly size: number }
  | { readonly act: 'truncate'; readonly file: string; readonly size: number }
  | {
      readonly act: 'fallocate'
      readonly file: string
      readonly mode: number
      readonly at: number
      readonly size: number
    }
  | { readonly act: 'create' | 'mkdir' | 'symlink'; readonly file: string }
  | { readonly act: 'unlink' | 'rmdir'; readonly file: string }
  | { readonly act: 'readlink' | 'fsync' | 'look'; readonly file: string }
  | { readonly act: 'rename'; readonly file: string; readonly to: string; readonly flags: number }
  | { readonly act: 'link'; readonly file: string; readonly to: string }
  | { readonly act: 'chmod'; readonly file: string; readonly mode: number }
  | { readonly act: 'setxattr'; readonly file: string; readonly value: number }
  | { readonly act: 'list'; readonly file: string; readonly room: number }
  | { readonly act: 'hold'; readonly file: string; readonly flags: number }
  | { readonly act: 'let-go' }
  | { readonly act: 'migrate' | 'reap' | 'verify' | 'sweep' | 'heal' }
  | { readonly act: 'harm'; readonly space: KeySpace; readonly nth: number }
  | { readonly act: 'mode'; readonly mode: Mode }
  | { readonly act: 'fault'; readonly fault: Fault; readonly times: number }
  | { readonly act: 'past'; readonly file: string; readonly at: number; readonly size: number }
  | { readonly act: 'full'; readonly disk: 'catalog' | 'staging' | 'volume'; readonly after: number }
  | { readonly act: 'refuse-names'; readonly errno: NamingErrno; readonly after: number }
  | { readonly act: 'crash'; readonly as: 'worker' | 'mount' }
  | { readonly act: 'trap'; readonly point: string; readonly nth: number }

interface Renaming {
  readonly from: { readonly place: Place; readonly ino: bigint }
  readonly target: { readonly place: Place; readonly ino: bigint }
  readonly flags: number
}

type Outcome<T> =
  | { readonly answer: T; readonly start: number; readonly end: number }
  | { readonly errno: string; readonly why: string; readonly start: number; readonly end: number }

/** The connection ended with the mount: nobody will ever know what became of the request. */
class Gone extends Error {}

/** Type and mode of what is made. */
const MADE = {
  create: [S_IFREG, 0o644],
  mkdir: [S_IFDIR, 0o755],
  symlink: [S_IFLNK, 0o777],
} as const

const raw = (name: string): Buffer => Buffer.from(name, 'latin1')

/** Clients of one mount, one request under way each, beside a model of what they may be answered. */
export class Clients {
  readonly rig: Rig
  readonly schedule: Schedule
  readonly tree = new ModelTree()
  readonly histories = new Map<ModelNode, History>()
  readonly client: Client
  /** What the volume holds, where nothing may change it. */
  readonly: Map<string, Described> | undefined
  /** A change of attributes failed: nobody knows whether it took place. */
  unsure = false
  faulty = false
  /** The store holds damaged objects. */
  harmed = false
  /** Objects may be left that nothing refers to. */
  mayLeak = false
  requests = 0
  #full = new Set<string>()
  #room = 0
  #marks = 0
  #targets = 0
  #recovering: Promise<void> | undefined
  #mounts = 0
  /** Changes of names that nobody knows the outcome of, as the model would make them. */
  #lost: Array<() => void> = []
  /** Versions of directories: names ever seen during a listing. */
  readonly #watching = new Set<{ directory: ModelNode; always: Set<string>; ever: Set<string> }>()
  #background = new Set<Promise<void>>()
  readonly #names = new NameLock()

  constructor(rig: Rig, schedule: Schedule) {
    this.rig = rig
    this.schedule = schedule
    this.client = new Client(rig)
  }

  verdict = (what: 'read' | 'write' | 'sync', path: string, length: number) => {
    const side = path.includes('/staging/')
      ? 'staging'
      : path.startsWith(`${this.rig.source}/`)
        ? 'volume'
        : ''
    if (what !== 'write' || !this.#full.has(side)) return 'ok' as const
    const fits = Math.min(this.#room, length)
    this.#room -= fits
    return fits === length ? ('ok' as const) : fits > 0 ? { short: fits } : { errno: 'ENOSPC' as const }
  }

  /** Acts of one client, one after the other. */
  async run(client: number, acts: readonly Act[]): Promise<void> {
    const held: Array<{ node: ModelNode; handle: bigint }> = []
    const mounts = this.#mounts
    try {
      for (const act of acts) {
        await this.schedule.turn('client', `client ${client}: ${JSON.stringify(act)}`)
        if (this.#mounts !== mounts) return
        await this.#do(act, held)
      }
      for (const { node, handle } of held.splice(0)) await this.#release(node, handle)
    } catch (error) {
      if (!(error instanceof Gone)) throw error
    } finally {
      if (this.#mounts === mounts) for (const { node } of held) node.handles.length = 0
    }
  }

  /** Until background work that acts have begun has ended. */
  async quiesce(): Promise<void> {
    await this.#recovering
    while (this.#background.size > 0) await Promise.all(this.#background)
  }

  /** Nobody waits for an answer any more. */
  stop(): void {
    this.#mounts += 1
    this.heal()
  }

  heal(): void {
    this.rig.world.heal()
    this.#full.clear()
    allowNames()
    freeDisk(this.rig.catalogPath)
  }

  /** The kernel forgets all nodes, what has no name goes; no request is under way. */
  forget(): void {
    for (const node of [...this.tree.nodes(), ...this.tree.nameless]) {
      node.handles.length = 0
      if (node !== this.tree.root) node.known = false
    }
    this.tree.nameless.clear()
    for (const { ino } of [...this.rig.catalog.scan()].reverse()) {
      if (ino !== ROOT) this.rig.overlay.forget(ino, 1n << 32n)
    }
  }

  /** Names changed by requests that a new mount left without an answer: the model follows what is there. */
  async reconcile(): Promise<void> {
    for (const apply of this.#lost.splice(0)) {
      if (!(await this.#namesAgree())) apply()
    }
  }

  /** Whole content of every file, as one client sees it with nothing under way; what was unsure is settled by it. */
  async compareAll(when: string): Promise<void> {
    if (!(await this.#namesAgree()))
      throw new Error(`${when}: names ${await this.#shown()} instead of ${this.#wanted()}`)
    for (const node of this.tree.nodes()) {
      if (node.type !== S_IFREG) continue
      const ino = await this.#nodeOf(node)
      const { attributes } = await this.#sure('getattr', (overlay, request) => overlay.getattr(request, ino))
      const bytes = await this.#sure('read', (overlay, request) => overlay.read(request, ino, 0n, 0, 1 << 20))
      const history = this.#history(node)
      const now = this.schedule.now
      const why = history.check(now, now, 0, Math.max(bytes.length, history.sizeNow) + 1, bytes)
      const path = this.tree.placeOf(node)
      const name = path ? this.tree.pathOf(path) : 'a file without a name'
      if (why !== undefined) throw new Error(`P1: ${when}: ${name}: ${why}`)
      if (attributes.size !== bytes.length)
        throw new Error(`${when}: ${name}: size ${attributes.size} of ${bytes.length} bytes`)
      if (attributes.nlink !== node.links)
        throw new Error(`${when}: ${name}: ${attributes.nlink} links, not ${node.links}`)
      history.settle(bytes)
      node.content = bytes
    }
  }

  /** Puts a file there before anything begins. */
  seed(node: ModelNode, content: Buffer): void {
    node.content = content
    this.histories.set(node, new History(content))
  }

  // ---- acts

  async #do(act: Act, held: Array<{ node: ModelNode; handle: bigint }>): Promise<void> {
    switch (act.act) {
      case 'read':
        return this.#onFile(act.file, async (node, ino) => {
          const result = await this.#ask((overlay, request) =>
            overlay.read(request, ino, 0n, act.at, act.size),
          )
          if (!this.#accept('read', result, node, [])) return
          const why = this.#history(node).check(result.start, result.end, act.at, act.size, result.answer)
          if (why !== undefined) throw new Error(`P1: read of ${act.file} ${act.at}+${act.size}: ${why}`)
        })
      case 'write':
        return this.#onFile(act.file, (node, ino) => this.#write(node, ino, act.at, act.size))
      case 'append':
        return this.#onFile(act.file, (node, ino) =>
          this.#write(node, ino, this.#history(node).sizeNow, act.size),
        )
      case 'truncate':
        return this.#onFile(act.file, async (node, ino) => {
          const done = this.#history(node).truncate(this.schedule.now, act.size)
          const result = await this.#ask((overlay, request) =>
            overlay.setattr(request, ino, { size: act.size }),
          )
          done(this.#accept('truncate', result, node, ['ENOSPC']) ? result.end : undefined)
        })
      case 'fallocate':
        return this.#onFile(act.file, async (node, ino) => {
          const { at, size, mode } = act
          const history = this.#history(node)
          const start = this.schedule.now
          const done =
            mode === 0
              ? history.grow(start, at + size)
              : mode === 16
                ? history.write(start, at, Buffer.alloc(size))
                : history.punch(start, at, at + size)
          const result = await this.#ask(async (overlay, request) =>
            overlay.fallocate(request, ino, 0n, mode, at, size),
          )
          done(
            this.#accept('fallocate', result, node, ['ENOSPC', 'EOPNOTSUPP', 'ENOTSUP'])
              ? result.end
              : undefined,
          )
        })
      case 'fsync':
        return this.#onFile(act.file, async (node, ino) => {
          const result = await this.#ask((overlay, request) => overlay.fsync(request, ino, 0n, false))
          this.#accept('fsync', result, node, ['ENOSPC'])
        })
      case 'chmod':
        return this.#onFile(act.file, async (node, ino) => {
          const result = await this.#ask((overlay, request) =>
            overlay.setattr(request, ino, { mode: act.mode }),
          )
          if (this.#accept('chmod', result, node, ['ENOSPC'])) node.mode = act.mode
          else this.unsure = true
        })
      case 'setxattr':
        return this.#onFile(act.file, async (node, ino) => {
          const value = Buffer.alloc(20, act.value)
          const result = await this.#ask((overlay, request) =>
            overlay.setxattr(request, ino, raw('user.x'), value, 0),
          )
          if (this.#accept('setxattr', result, node, ['ENOSPC'])) node.xattrs.set('user.x', value)
          else this.unsure = true
        })
      case 'hold':
        return this.#onFile(act.file, async (node, ino) => {
          const result = await this.#ask((overlay, request) => overlay.open(request, ino, act.flags))
          if (!this.#accept('open', result, node, [])) return
          held.push({ node, handle: result.answer.handle })
        })
      case 'let-go': {
        const last = held.pop()
        if (last) await this.#release(last.node, last.handle)
        return
      }
      case 'look':
        await this.#lookup(act.file)
        return
      case 'readlink':
        return this.#readlink(act.file)
      case 'create':
      case 'mkdir':
      case 'symlink':
        return this.#names.shared(() => this.#create(act.file, act.act))
      case 'unlink':
      case 'rmdir':
        return this.#names.shared(() => this.#remove(act.file, act.act))
      case 'rename':
        return this.#rename(act.file, act.to, act.flags)
      case 'link':
        return this.#names.shared(() => this.#link(act.file, act.to))
      case 'list':
        return this.#list(act.file, act.room)
      default:
        return this.#around(act)
    }
  }

  #around(act: Act): void {
    const { rig } = this
    switch (act.act) {
      case 'migrate':
        if (rig.modes.policy.copies) this.#behind(() => rig.built.mover.run({}, () => undefined))
        return
      case 'reap':
        if (rig.modes.policy.removesLegacy)
          this.#behind(() => rig.built.reaper.sweep(() => Promise.resolve(true)))
        return
      case 'verify':
        this.#behind(() => this.#verify())
        return
      case 'sweep':
        this.#behind(() => rig.beginSweep())
        return
      case 'harm':
        this.#behind(() => this.#harm(act.space, act.nth))
        return
      case 'heal':
        this.heal()
        return
      case 'mode':
        this.#behind(async () => {
          try {
            await rig.beginMode(act.mode)
          } catch (error) {
            if (!(error instanceof ModeRefused)) throw error
          }
        })
        return
      case 'fault':
        rig.world.inject({ fault: act.fault, times: act.times })
        this.faulty = true
        if (act.fault === 'late') this.mayLeak = true
        return
      case 'past':
        this.#writePast(act.file, act.at, act.size)
        return
      case 'full':
        this.faulty = true
        // A file made on the volume whose catalog is full is taken away again, and that has to be possible.
        if (act.disk === 'catalog') allowNames()
        if (act.disk === 'catalog') fillDisk(rig.catalogPath, act.after, act.after % 2 === 1)
        else {
          this.#full.add(act.disk)
          this.#room = act.after * 700
        }
        return
      case 'refuse-names':
        this.faulty = true
        freeDisk(rig.catalogPath)
        refuseNames(act.errno, act.after)
        return
      case 'trap':
        // Of a daemon that is dead already nobody would hear that it has died.
        if (rig.dead) return
        rig.dieAt(act.point, act.nth)
        void rig.death.then(() => this.#recover('worker'))
        return
      case 'crash':
        rig.die()
        void this.#recover(act.as)
        return
      default:
        throw new Error('no such act')
    }
  }

  /** Whatever goes on meanwhile, nothing is found that is not there. */
  async #verify(): Promise<void> {
    const { differences } = await this.rig.beginVerify()
    const found = differences.filter(({ kind }) => kind !== 'pending')
    if (found.length > 0 && !this.faulty && !this.harmed)
      throw new Error(`verify finds ${JSON.stringify(found)}`)
  }

  /** The store damages an object, where the volume still has all there is. */
  async #harm(space: KeySpace, nth: number): Promise<void> {
    const { memory } = this.rig.world
    const keys: string[] = []
    for await (const key of memory.keys(space)) keys.push(key)
    const key = keys.sort()[nth % Math.max(1, keys.length)]
    const object = key === undefined ? undefined : await memory.get(space, key)
    if (key === undefined || !object) return
    this.harmed = true
    // It may be garbage by now.
    this.mayLeak = true
    await memory.put(space, key, this.rig.world.damage(object)).catch(() => undefined)
  }

  /** Work of the daemon that no client waits for. A daemon that dies takes it along. */
  #behind(work: () => Promise<unknown>): void {
    const { rig } = this
    const death = rig.death
    const daemon = rig.built
    const outcome = work().then(
      () => undefined,
      (error: unknown) => {
        if (rig.built !== daemon || rig.dead || this.faulty) return
        throw error
      },
    )
    const ended: Promise<void> = Promise.race([outcome, death]).finally(() => this.#background.delete(ended))
    ended.catch(() => undefined)
    this.#background.add(ended)
  }

  #recover(as: 'worker' | 'mount'): Promise<void> {
    this.#recovering ??= (async () => {
      if (as === 'mount') {
        this.#mounts += 1
        freeDisk(this.rig.catalogPath)
        this.heal()
      }
      freeDisk(this.rig.catalogPath)
      await this.rig.restart(as)
      if (as === 'mount') {
        for (const node of [...this.tree.nodes(), ...this.tree.nameless]) {
          node.handles.length = 0
          if (node !== this.tree.root) node.known = false
        }
        this.tree.nameless.clear()
      }
      this.#recovering = undefined
    })()
    return this.#recovering
  }

  // ---- requests

  async #ask<T>(
    operation: (overlay: Overlay, request: RequestContext) => Answer<T>,
    lost?: () => void,
  ): Promise<Outcome<T>> {
    const mounts = this.#mounts
    const start = this.schedule.now
    let unique: bigint | undefined
    for (;;) {
      this.requests += 1
      const outcome = (result: { answer: T } | { errno: string; why: string }): Outcome<T> => ({
        ...result,
        start,
        end: this.schedule.now,
      })
      try {
        await this.#served(unique)
        if (this.#mounts !== mounts) throw new Gone()
        return outcome({ answer: await this.rig.perform(operation, {}, unique, false) })
      } catch (error) {
        if (error instanceof Unanswered) {
          unique = error.unique
          await Promise.resolve()
          if (this.rig.dead && !this.#recovering) throw new Error('nobody starts the daemon again')
          await this.#served(unique)
          if (this.#mounts === mounts) continue
          if (lost) this.#lost.push(lost)
          throw new Gone()
        }
        if (error instanceof FsError) return outcome({ errno: error.code, why: reasonOf(error) })
        if (error instanceof StoreError) return outcome({ errno: 'EIO', why: reasonOf(error) })
        if (error instanceof Error && 'code' in error && typeof error.code === 'string')
          return outcome({ errno: error.code, why: error.message })
        throw error
      }
    }
  }

  /**
   * Resolves when a daemon is there again. A change of names that took place is answered before anything else is asked: the
   * kernel holds its directories and files until then. All others come one after the other, in an order that the seed decides.
   */
  async #served(unique: bigint | undefined): Promise<void> {
    while (this.#recovering) {
      await this.#recovering
      if (unique !== undefined && this.rig.catalog.intents.get(unique)) return
      await this.schedule.turn('client', 'is served again')
    }
  }

  /** Whether the request succeeded; an error that nothing excuses is the daemon's fault. */
  #accept<T>(
    what: string,
    result: Outcome<T>,
    node: ModelNode | undefined,
    whenFaulty: readonly string[],
  ): result is { answer: T; start: number; end: number } {
    if ('answer' in result) return true
    if (this.faulty && (result.errno === 'EIO' || whenFaulty.includes(result.errno))) return false
    if (whenFaulty.includes(result.errno) && result.errno !== 'ENOSPC') return false
    // Found by its name and unlinked before it was opened: a kernel looks again.
    const stale = node && node.links === 0 && node.handles.length === 0
    if (stale && (result.errno === 'ESTALE' || result.errno === 'ENOENT')) return false
    throw new Error(`${what}: ${result.errno} (${result.why})`)
  }

  async #sure<T>(
    what: string,
    operation: (overlay: Overlay, request: RequestContext) => Answer<T>,
  ): Promise<T> {
    const result = await this.#ask(operation)
    if ('answer' in result) return result.answer
    throw new Error(`${what}: ${result.errno} (${result.why}) with nothing wrong`)
  }

  async #write(node: ModelNode, ino: bigint, at: number, size: number): Promise<void> {
    this.#marks = (this.#marks % 254) + 1
    const data = Buffer.alloc(size, this.#marks)
    const done = this.#history(node).write(this.schedule.now, at, data)
    const result = await this.#ask((overlay, request) =>
      overlay.write(request, ino, 0n, at, data, { killSuidGid: false, flags: 0 }),
    )
    const written = this.#accept('write', result, node, ['ENOSPC', 'EROFS'])
    // A disk that is full takes a part.
    done(written && result.answer === size ? result.end : undefined)
    if (written && result.answer !== size && !this.faulty)
      throw new Error(`${result.answer} of ${size} bytes written`)
  }

  async #release(node: ModelNode, handle: bigint): Promise<void> {
    const ino = node.ino
    if (ino === undefined) return
    const flushed = await this.#ask((overlay, request) => overlay.flush(request, ino))
    this.#accept('flush', flushed, node, ['ENOSPC'])
    const released = await this.#ask((overlay, request) => {
      overlay.release(request, ino, handle)
    })
    this.#accept('release', released, node, ['ENOSPC'])
    const at = node.handles.indexOf(handle)
    if (at >= 0) node.handles.splice(at, 1)
    this.tree.closed(node)
  }

  async #onFile(path: string, body: (node: ModelNode, ino: bigint) => Promise<void>): Promise<void> {
    const node = await this.#lookup(path)
    if (!node || node.type !== S_IFREG || node.ino === undefined) return
    // As a kernel that opened the file: it is in use until the request is answered.
    const { ino } = node
    const opened = await this.#ask((overlay, request) => overlay.open(request, ino, constants.O_RDWR))
    if (!this.#accept('open', opened, node, ['EROFS'])) return
    const { handle } = opened.answer
    node.handles.push(handle)
    if (node.links === 0) this.tree.nameless.add(node)
    await body(node, ino)
    if (node.handles.includes(handle)) await this.#release(node, handle)
  }

  /** The node that a path shows; compared with the model at the moment of the answer. */
  async #lookup(path: string): Promise<ModelNode | undefined> {
    let node: ModelNode = this.tree.root
    for (const name of parts(path)) {
      const parent = node.ino
      if (parent === undefined) throw new Error('a node without a number')
      const result = await this.#ask((overlay, request) => overlay.lookup(request, parent, raw(name)))
      const wanted: ModelNode | undefined = node.children.get(name)
      if ('answer' in result) {
        if (!wanted) throw new Error(`lookup of ${path}: ${name} is there, but should not be`)
        this.#learn(wanted, result.answer.nodeId, path)
        node = wanted
        continue
      }
      const gone = !this.#isThere(node)
      if (result.errno === 'ENOENT' && !wanted) return undefined
      if (gone && (result.errno === 'ESTALE' || result.errno === 'ENOENT')) return undefined
      if (result.errno === 'ENOTDIR' && !isDir(node)) return undefined
      if (this.faulty && (result.errno === 'EIO' || result.errno === 'ENOSPC')) return undefined
      throw new Error(`lookup of ${path}: ${name}: ${result.errno} (${result.why})`)
    }
    return node
  }

  #isThere(node: ModelNode): boolean {
    return node === this.tree.root || this.tree.placeOf(node) !== undefined
  }

  #learn(node: ModelNode, ino: bigint, path: string): void {
    if (node.ino !== undefined && node.ino !== ino) {
      throw new Error(`the inode number of ${path} changed from ${node.ino} to ${ino}`)
    }
    node.ino = ino
    node.known = true
  }

  async #parentOf(path: string): Promise<{ place: Place; ino: bigint } | undefined> {
    const names = parts(path)
    const name = names.pop() ?? ''
    const directory = await this.#lookup(names.join('/'))
    if (!directory || !isDir(directory) || directory.ino === undefined) return undefined
    return { place: { directory, name }, ino: directory.ino }
  }

  /** Compares an answer about names with the model, which makes the same change at the same moment. */
  #settle<T>(
    what: string,
    result: Outcome<T>,
    change: () => string | undefined,
  ): result is { answer: T; start: number; end: number } {
    if (!('answer' in result) && this.faulty && ['EIO', 'ENOSPC', 'EROFS', 'EAGAIN'].includes(result.errno))
      return false
    const expected = change()
    this.#watch()
    if ('answer' in result) {
      if (expected !== undefined) throw new Error(`${what}: success instead of ${expected}`)
      return true
    }
    if (result.errno === expected || (expected !== undefined && result.errno === 'ESTALE')) return false
    throw new Error(`${what}: ${result.errno} (${result.why}) instead of ${expected ?? 'success'}`)
  }

  async #readlink(path: string): Promise<void> {
    const node = await this.#lookup(path)
    if (!node || node.type !== S_IFLNK || node.ino === undefined) return
    const { ino } = node
    const result = await this.#ask((overlay, request) => overlay.readlink(request, ino))
    if (this.#accept('readlink', result, node, []) && !result.answer.equals(node.content))
      throw new Error(`P1: ${path} leads to ${result.answer}, not to ${node.content}`)
  }

  async #create(path: string, kind: 'create' | 'mkdir' | 'symlink'): Promise<void> {
    const at = await this.#parentOf(path)
    if (!at) return
    const { place, ino: parent } = at
    const target = Buffer.from(`to/${++this.#targets}`)
    let made: ModelNode | undefined
    const change = (): string | undefined => {
      if (!this.#isThere(place.directory)) return 'ENOENT'
      const [type, mode] = MADE[kind]
      const node = this.tree.make(place, type, mode, kind === 'symlink' ? target : undefined)
      if (typeof node === 'string') return node
      made = node
      if (kind === 'create') this.histories.set(node, new History(Buffer.alloc(0)))
      return undefined
    }
    const result = await this.#ask(
      async (overlay, request) => {
        if (kind === 'mkdir')
          return { entry: overlay.mkdir(request, parent, raw(place.name), 0o755), open: undefined }
        if (kind === 'symlink')
          return { entry: overlay.symlink(request, parent, raw(place.name), target), open: undefined }
        return overlay.create(request, parent, raw(place.name), 0o644, constants.O_RDWR)
      },
      () => void change(),
    )
    if (!this.#settle(`${kind} ${path}`, result, change) || !made) return
    const { entry, open } = result.answer
    this.#learn(made, (await entry).nodeId, path)
    if (!open) return
    made.handles.push(open.handle)
    await this.#release(made, open.handle)
  }

  async #remove(path: string, kind: 'unlink' | 'rmdir'): Promise<void> {
    const at = await this.#parentOf(path)
    if (!at) return
    const { place, ino: parent } = at
    const change = (): string | undefined =>
      this.#isThere(place.directory) ? this.tree[kind](place) : 'ENOENT'
    const result = await this.#ask(
      (overlay, request) => overlay[kind](request, parent, raw(place.name)),
      () => void change(),
    )
    this.#settle(`${kind} ${path}`, result, change)
  }

  async #rename(path: string, to: string, flags: number): Promise<void> {
    const from = await this.#parentOf(path)
    const target = await this.#parentOf(to)
    if (!from || !target) return
    const nodes = (): Array<ModelNode | undefined> =>
      [from, target].map(({ place }) => place.directory.children.get(place.name))
    // The kernel lets nobody change names in a directory that moves, nor two of them move at once.
    if (nodes().some(isDir))
      return this.#names.alone(() => this.#renameNow(path, to, { from, target, flags }))
    await this.#names.shared(async () => {
      if (!nodes().some(isDir)) await this.#renameNow(path, to, { from, target, flags })
    })
  }

  async #renameNow(path: string, to: string, { from, target, flags }: Renaming): Promise<void> {
    const source = from.place.directory.children.get(from.place.name)
    const replaced = target.place.directory.children.get(target.place.name)
    // The kernel refuses these itself.
    if (source && isDir(source) && this.tree.isWithin(target.place.directory, source)) return
    if (replaced && isDir(replaced) && this.tree.isWithin(from.place.directory, replaced)) return
    const change = (): string | undefined => {
      if (!this.#isThere(from.place.directory) || !this.#isThere(target.place.directory)) return 'ENOENT'
      return this.tree.rename(from.place, target.place, flags)
    }
    const result = await this.#ask(
      (overlay, request) =>
        overlay.rename(request, from.ino, raw(from.place.name), target.ino, raw(target.place.name), flags),
      () => void change(),
    )
    this.#settle(`rename ${path} to ${to} (${flags})`, result, change)
  }

  async #link(path: string, to: string): Promise<void> {
    const node = await this.#lookup(path)
    const target = await this.#parentOf(to)
    if (!node || !target || isDir(node) || node.ino === undefined) return
    const { ino } = node
    const change = (): string | undefined => {
      if (!this.#isThere(target.place.directory) || node.links === 0) return 'ENOENT'
      return this.tree.link(node, target.place)
    }
    const result = await this.#ask(
      (overlay, request) => overlay.link(request, ino, target.ino, raw(target.place.name)),
      () => void change(),
    )
    this.#settle(`link ${path} to ${to}`, result, change)
  }

  async #list(path: string, room: number): Promise<void> {
    const directory = await this.#lookup(path)
    if (!directory || !isDir(directory) || directory.ino === undefined) return
    const { ino } = directory
    const opened = await this.#ask((overlay, request) => overlay.opendir(request, ino))
    if (
      !this.#accept('opendir', opened, this.#isThere(directory) ? undefined : { ...directory, links: 0 }, [])
    )
      return
    const { handle } = opened.answer
    const names = (): Set<string> => new Set(directory.children.keys())
    const seen = { directory, always: names(), ever: names() }
    this.#watching.add(seen)
    const listed: string[] = []
    for (let cookie = 0n; ; ) {
      const before = cookie
      let left = room
      const found: string[] = []
      const sink: DirectorySink = {
        plus: room % 2 === 0,
        hasRoom: () => left > 0,
        add: (item) => {
          left -= 1
          cookie = item.cookie
          if (!['.', '..'].includes(item.name.toString('latin1'))) found.push(item.name.toString('latin1'))
        },
        clear: () => {
          found.length = 0
          left = room
          cookie = before
        },
      }
      const result = await this.#ask((overlay, request) => {
        found.length = 0
        left = room
        cookie = before
        overlay.readdir(request, ino, handle, before, sink)
      })
      if (
        !this.#accept('readdir', result, this.#isThere(directory) ? undefined : { ...directory, links: 0 }, [
          'ENOSPC',
        ])
      ) {
        this.#watching.delete(seen)
        return
      }
      listed.push(...found)
      if (cookie === before) break
      await this.schedule.turn('client', 'goes on listing')
    }
    this.#watching.delete(seen)
    await this.#ask((overlay, request) => overlay.releasedir(request, ino, handle))
    const twice = listed.find((name, index) => listed.indexOf(name) !== index)
    const missing = [...seen.always].find((name) => !listed.includes(name))
    const extra = listed.find((name) => !seen.ever.has(name))
    if (twice ?? missing ?? extra) {
      throw new Error(
        `listing of ${path}: [${listed}], always [${[...seen.always]}], ever [${[...seen.ever]}]`,
      )
    }
  }

  #watch(): void {
    for (const { directory, always, ever } of this.#watching) {
      for (const name of always) if (!directory.children.has(name)) always.delete(name)
      for (const name of directory.children.keys()) ever.add(name)
    }
  }

  /** Somebody writes on the volume itself, where it is the truth and nobody else is writing the file. */
  #writePast(path: string, at: number, size: number): void {
    if (this.rig.dead || !this.#isVolumeTheTruth(path)) return
    let node: ModelNode | undefined = this.tree.root
    for (const name of parts(path)) node = node?.children.get(name)
    if (node?.type !== S_IFREG || node.handles.length > 0) return
    this.#marks = (this.#marks % 254) + 1
    const data = Buffer.alloc(size, this.#marks)
    const done = this.#history(node).write(this.schedule.now, at, data)
    const descriptor = openSync(join(this.rig.source, path), constants.O_WRONLY)
    writeSync(descriptor, data, 0, size, at)
    closeSync(descriptor)
    done(this.schedule.now)
    const now = diskTree(this.rig.source).get(`/${path}`)
    if (now) this.readonly?.set(`/${path}`, now)
  }

  /** Of a file that the catalog has taken over, a change past the overlay is seen some time later, or not at all. */
  #isVolumeTheTruth(path: string): boolean {
    const { policy } = this.rig.modes
    if (policy.writeTo === 'legacy') return true
    let ino = ROOT
    for (const name of parts(path)) {
      const dirent = this.rig.catalog.dirents.get(ino, raw(name))
      if (dirent?.ino === undefined || dirent.legacy !== dirent.ino) return false
      ino = dirent.ino
    }
    return this.rig.catalog.get(ino)?.authority === 'legacy'
  }

  #history(node: ModelNode): History {
    const history = this.histories.get(node)
    if (!history) throw new Error('a file without a history')
    return history
  }

  async #nodeOf(node: ModelNode): Promise<bigint> {
    const place = this.tree.placeOf(node)
    if (!place) throw new Error('a node without a name')
    const found = await this.#lookup(this.tree.pathOf(place))
    if (!found?.ino) throw new Error(`${this.tree.pathOf(place)} is not there`)
    return found.ino
  }

  async #shown(): Promise<string> {
    const paths: string[] = []
    const visit = async (ino: bigint, path: string): Promise<void> => {
      const { handle } = await this.#sure('opendir', (overlay, request) => overlay.opendir(request, ino))
      const names: Buffer[] = []
      const sink: DirectorySink = {
        plus: false,
        hasRoom: () => true,
        add: ({ name }) => {
          if (!['.', '..'].includes(name.toString('latin1'))) names.push(name)
        },
        clear: () => {
          names.length = 0
        },
      }
      await this.#sure('readdir', (overlay, request) => overlay.readdir(request, ino, handle, 0n, sink))
      await this.#sure('releasedir', (overlay, request) => overlay.releasedir(request, ino, handle))
      for (const name of names) {
        const entry = await this.#sure('lookup', (overlay, request) => overlay.lookup(request, ino, name))
        const below = `${path}/${name.toString('latin1')}`
        paths.push(below)
        if ((entry.attributes.mode & constants.S_IFMT) === S_IFDIR) await visit(entry.nodeId, below)
      }
    }
    await visit(ROOT, '')
    return paths.sort().join(' ')
  }

  #wanted(): string {
    return [...this.tree.describe().keys()].sort().join(' ')
  }

  async #namesAgree(): Promise<boolean> {
    return (await this.#shown()) === this.#wanted()
  }
}

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '')
