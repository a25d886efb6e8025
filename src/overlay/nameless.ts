import { constants } from 'node:fs'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { requireLegacy } from '../content/index.ts'
import type { Answer, RequestContext } from '../fuse/operations.ts'
import {
  chmodDescriptor,
  chownDescriptor,
  closeDescriptor,
  O_TMPFILE,
  openAt,
  statDescriptor,
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
      names.purge(done)
    }
    if (names.directory(parent).orphan) throw new FsError('ENOENT')
    return onVolume
      ? this.#createOnVolume(request, parent, mode)
      : inCatalog.createNameless(request, parent, mode).ino
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
        names.purge(ino)
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
