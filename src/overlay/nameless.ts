import { constants } from 'node:fs'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { DIRTY_CONTENT, type Inode } from '../catalog/index.ts'
import { adoptAttributes, chunkCount, encodeXattrs, fingerprintOf, requireLegacy } from '../content/index.ts'
import type { Answer, RequestContext } from '../fuse/operations.ts'
import {
  chmodDescriptor,
  chownDescriptor,
  closeDescriptor,
  O_TMPFILE,
  openAt,
  statDescriptor,
  xattrsOfOpen,
} from '../sys/index.ts'
import type { Answers } from './answers.ts'
import type { CatalogNamespace } from './catalog-namespace.ts'
import type { OverlayContext } from './context.ts'
import type { Names } from './names.ts'
import { ownerToGive } from './new-owner.ts'

const ITSELF = Buffer.from('.')

interface Parts {
  readonly names: Names
  readonly answers: Answers
  readonly inCatalog: CatalogNamespace
}

/**
 * Files that are made without a name (O_TMPFILE). On the volume it is one of the volume's own, which the supervisor holds, so that it
 * outlives the worker. Once nobody has it open, or with the power, it is gone: the volume sees to that, and a new mount to its row.
 */
export class Nameless {
  readonly #context: OverlayContext
  readonly #parts: Parts

  constructor(context: OverlayContext, parts: Parts) {
    this.#context = context
    this.#parts = parts
  }

  /** Its inode number. @throws FsError EOPNOTSUPP where the volume has no such files */
  create(request: RequestContext, parent: bigint, mode: number, onVolume: boolean): Answer<bigint> {
    const { names, answers, inCatalog } = this.#parts
    const done = answers.recorded(request)
    if (typeof done === 'bigint') {
      if (this.#isThere(done)) return done
      // Its worker died before anybody held the file: there is a row and nothing else.
      names.removal.purge(done)
    }
    if (names.directory(parent).orphan) throw new FsError('ENOENT')
    return onVolume
      ? this.#createOnVolume(request, parent, mode)
      : inCatalog.createNameless(request, parent, mode).ino
  }

  /**
   * A file is about to get a name in the catalog. If it was made on the volume and has none, nothing but what the supervisor holds has its
   * bytes: they come to the staging file before, and until then it goes on as it is. Repeated, it goes on; `undefined` of any other file.
   * @throws FsError
   */
  bring({ signal }: RequestContext, { ino, orphan }: Inode): Promise<void> | undefined {
    const { legacyFiles, policy } = this.#context
    const isLeft = orphan && policy().writeTo === 'store' && legacyFiles.isHeld(ino)
    return isLeft ? this.#bring(ino, signal) : undefined
  }

  async #bring(ino: bigint, signal?: AbortSignal): Promise<void> {
    const { catalog, activity, reader, writer, legacyFiles } = this.#context
    while (activity.isWritingVolume(ino)) await activity.landed(ino)
    this.#takeOver(ino)
    faultPoint('overlay.tmpfile.taken')
    const next = (from: number): number | undefined =>
      reader.nextBaseChunk(this.#parts.names.inode(ino), from)
    for (let index = next(0); index !== undefined; index = next(index + 1))
      await writer.preserve(ino, signal, index)
    catalog.transaction(() => {
      const inode = this.#parts.names.inode(ino)
      inode.base = 'none'
      inode.baseLimit = 0
      inode.fingerprint = undefined
      inode.legacyIno = undefined
      inode.dirty |= DIRTY_CONTENT
      catalog.save(inode)
    })
    faultPoint('overlay.tmpfile.brought')
    legacyFiles.release(ino)
  }

  /** Its content keeps coming from what the supervisor holds. Within this tick. */
  #takeOver(ino: bigint): void {
    const { catalog, legacyFiles } = this.#context
    catalog.transaction(() => {
      const inode = this.#parts.names.inode(ino)
      if (inode.authority === 'catalog') return
      const stat = legacyFiles.statOpen(ino)
      adoptAttributes(inode, stat)
      inode.xattrs = legacyFiles.withWriter(ino, (descriptor) => {
        const names = xattrsOfOpen.list(descriptor)
        return encodeXattrs(
          new Map(names.map((name) => [name.toString('latin1'), xattrsOfOpen.get(descriptor, name)])),
        )
      })
      inode.authority = 'catalog'
      inode.base = 'legacy'
      inode.baseLimit = chunkCount(stat.size)
      inode.fingerprint = fingerprintOf(stat)
      catalog.save(inode)
    })
  }

  #isThere(ino: bigint): boolean {
    const inode = this.#context.catalog.get(ino)
    return inode?.authority === 'catalog' || this.#context.legacyFiles.isHeld(ino)
  }

  async #createOnVolume(request: RequestContext, parent: bigint, mode: number): Promise<bigint> {
    const { catalog, legacyFiles } = this.#context
    const { names, answers } = this.#parts
    const legacy = requireLegacy(this.#context)
    const directory = legacy.directory(parent)
    const flags = O_TMPFILE | constants.O_RDWR
    const descriptor = legacy.as(request, () => openAt(directory, ITSELF, flags, mode & 0o7777))
    try {
      this.#giveOwner(descriptor, parent, request)
      faultPoint('overlay.tmpfile.made')
      const ino = catalog.transaction(() => {
        const made = names.adoptNameless(statDescriptor(descriptor))
        answers.record(request, made.ino)
        return made.ino
      })
      faultPoint('overlay.tmpfile.noted')
      try {
        await legacyFiles.holdOpen(ino, descriptor)
      } catch (error) {
        names.removal.purge(ino)
        throw error
      }
      faultPoint('overlay.tmpfile.held')
      return ino
    } finally {
      closeDescriptor(descriptor)
    }
  }

  #giveOwner(descriptor: number, parent: bigint, request: RequestContext): void {
    const made = statDescriptor(descriptor)
    const owner = ownerToGive(this.#context, this.#parts.names, parent, made, request)
    if (!owner) return
    chownDescriptor(descriptor, owner.uid, owner.gid)
    // chown(2) clears the set-id bits that the file was made with.
    if ((made.mode & 0o6000) !== 0) chmodDescriptor(descriptor, made.mode & 0o7777)
  }
}
