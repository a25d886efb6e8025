import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { placeOf, requireLegacy } from '../content/index.ts'
import type { Answer, Entry, RequestContext } from '../fuse/operations.ts'
import type { ReadBy } from '../legacy/index.ts'
import { RENAME_EXCHANGE } from '../sys/index.ts'
import { afterWrites } from './after-writes.ts'
import type { Answers } from './answers.ts'
import { CatalogNamespace } from './catalog-namespace.ts'
import type { OverlayContext } from './context.ts'
import type { Entries } from './entries.ts'
import type { LegacyNamespace, NewFile } from './legacy-namespace.ts'
import { Nameless } from './nameless.ts'
import type { Names } from './names.ts'
import { eitherName, oneName, type Unfinished } from './unfinished.ts'

/** What rename(2) is asked for. */
export interface Rename {
  readonly parent: bigint
  readonly name: Buffer
  readonly newParent: bigint
  readonly newName: Buffer
  readonly flags: number
}

interface Parts {
  readonly names: Names
  readonly answers: Answers
  readonly unfinished: Unfinished
  readonly entries: Entries
  readonly legacyNamespace: LegacyNamespace
}

/** Requests that make, remove and move names: on the volume or in the catalog, whichever is their place. */
export class NameOperations {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #answers: Answers
  readonly #unfinished: Unfinished
  readonly #entries: Entries
  readonly #legacyNamespace: LegacyNamespace
  readonly #catalogNamespace: CatalogNamespace
  readonly #nameless: Nameless

  constructor(context: OverlayContext, parts: Parts) {
    const { names, answers, unfinished, entries, legacyNamespace } = parts
    this.#context = context
    this.#names = names
    this.#answers = answers
    this.#unfinished = unfinished
    this.#entries = entries
    this.#legacyNamespace = legacyNamespace
    this.#catalogNamespace = new CatalogNamespace(context, names, answers)
    this.#nameless = new Nameless(context, { names, answers, inCatalog: this.#catalogNamespace })
  }

  unlink(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    this.#unfinished.conclude(oneName(parent, name))
    if (this.#answers.recorded(request) !== undefined) return
    const { inode } = this.#names.resolve(parent, name)
    if (this.#onVolume([parent], [inode])) {
      const held = this.#legacyNamespace.hold(parent, name, false)
      // After a wait all is decided anew: meanwhile the mode may have changed, and the catalog have taken over.
      if (held) return held.then(() => this.unlink(request, parent, name))
      return this.#legacyNamespace.unlink(request, parent, name)
    }
    return afterWrites(this.#context.activity, [inode.ino], () =>
      this.#catalogNamespace.unlink(request, parent, name),
    )
  }

  rmdir(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    return this.#rmdir(request, parent, name, undefined)
  }

  /** `seen`: the directory in which no names were found a moment ago. */
  #rmdir(request: RequestContext, parent: bigint, name: Buffer, seen: bigint | undefined): Answer<void> {
    this.#unfinished.conclude(oneName(parent, name))
    if (this.#answers.recorded(request) !== undefined) return
    const { inode } = this.#names.resolve(parent, name)
    if (this.#onVolume([parent], [inode])) return this.#legacyNamespace.rmdir(request, parent, name)
    const looked = inode.ino === seen ? undefined : this.#requireEmpty(inode)
    if (looked) return looked.then(() => this.#rmdir(request, parent, name, inode.ino))
    return this.#catalogNamespace.rmdir(request, parent, name)
  }

  rename(request: RequestContext, change: Rename): Answer<void> {
    return this.#rename(request, change, undefined)
  }

  #rename(request: RequestContext, change: Rename, seen: bigint | undefined): Answer<void> {
    const { parent, name, newParent, newName, flags } = change
    this.#unfinished.conclude(eitherName(oneName(parent, name), oneName(newParent, newName)))
    if (this.#answers.recorded(request) !== undefined) return
    const { inode } = this.#names.resolve(parent, name)
    const target = this.#names.find(newParent, newName)?.inode
    if (this.#onVolume([parent, newParent], target ? [inode, target] : [inode])) {
      const replaces = target !== undefined && (flags & RENAME_EXCHANGE) === 0
      const held = replaces ? this.#legacyNamespace.hold(newParent, newName, true) : undefined
      if (held) return held.then(() => this.#rename(request, change, seen))
      return this.#legacyNamespace.rename(request, parent, name, newParent, newName, flags)
    }
    const isReplaced =
      target && target.ino !== seen && target.ino !== inode.ino && (flags & RENAME_EXCHANGE) === 0
    const isLookedAt =
      isReplaced && isDirectory(inode.mode) && !this.#catalogNamespace.isBelowItself(inode, newParent)
    const looked = isLookedAt ? this.#requireEmpty(target) : undefined
    if (looked) return looked.then(() => this.#rename(request, change, target?.ino))
    return afterWrites(this.#context.activity, target ? [inode.ino, target.ino] : [inode.ino], () =>
      this.#catalogNamespace.rename(request, parent, name, newParent, newName, flags),
    )
  }

  link(request: RequestContext, node: bigint, newParent: bigint, newName: Buffer): Answer<Entry> {
    this.#unfinished.conclude(oneName(newParent, newName))
    const done = this.#answers.recorded(request)
    if (typeof done === 'bigint') return this.#entries.ofInode(done)
    const inode = this.#names.inode(node)
    if (this.#onVolume([newParent], [inode]))
      return this.#entries.of(this.#legacyNamespace.link(request, node, newParent, newName))
    const brought = this.#nameless.bring(request, inode)
    if (brought) return brought.then(() => this.link(request, node, newParent, newName))
    return afterWrites(this.#context.activity, [node], () =>
      this.#entries.of(this.#catalogNamespace.link(request, node, newParent, newName)),
    )
  }

  create(request: RequestContext, parent: bigint, name: Buffer, file: NewFile): Entry {
    this.#unfinished.conclude(oneName(parent, name))
    const done = this.#answers.recorded(request)
    if (typeof done === 'bigint') return this.#entries.ofInode(done)
    const directory = this.#names.directory(parent)
    if (directory.orphan) throw new FsError('ENOENT')
    const on = this.#onVolume([parent], []) ? this.#legacyNamespace : this.#catalogNamespace
    return this.#entries.of(on.create(request, parent, name, file))
  }

  /** Target of a symlink. @throws FsError */
  readTarget(node: bigint, by: ReadBy = 'ferryfs'): Buffer {
    const inode = this.#names.inode(node)
    if (inode.authority === 'catalog') {
      if (!inode.target) throw new FsError('EINVAL')
      return inode.target
    }
    const place = placeOf(this.#context.catalog, node, this.#context.legacy())
    if (!place) throw new FsError('ESTALE')
    return requireLegacy(this.#context).target(place, by)
  }

  /** A file without a name. */
  tmpfile(request: RequestContext, directory: bigint, mode: number): Answer<Entry> {
    const entryOf = (ino: bigint) => this.#entries.ofInode(ino)
    const made = this.#nameless.create(request, directory, mode, this.#onVolume([directory], []))
    return made instanceof Promise ? made.then(entryOf) : entryOf(made)
  }

  /** Of a directory that is to go: looks for names in it, now or in turns of its own. @throws FsError ENOTEMPTY */
  #requireEmpty(inode: Inode): Promise<void> | undefined {
    return isDirectory(inode.mode) ? this.#names.requireEmpty(inode) : undefined
  }

  /** Whether the legacy volume is the place of a change that involves these directories and files. */
  #onVolume(parents: readonly bigint[], files: readonly Inode[]): boolean {
    if (this.#context.policy().writeTo !== 'legacy') return false
    return (
      parents.every((parent) => this.#names.directory(parent).authority === 'legacy') &&
      files.every((file) => file.authority === 'legacy')
    )
  }
}
