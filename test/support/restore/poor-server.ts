// A volume as poor as an old memory card, or as one of another system. argv: the directory behind it and the mount point.
import { FsError } from '../../../src/base/errors.ts'
import { mountKernel } from '../../../src/fuse/kernel/mount.ts'
import { KernelSession } from '../../../src/fuse/kernel/session.ts'
import type { AttributeAnswer, AttributeChanges, RequestContext } from '../../../src/fuse/operations.ts'
import { createLog } from '../../../src/observe/log.ts'
import { BackedFileSystem } from '../volume/backed-file-system.ts'

const TWO_SECONDS = 2_000_000_000n
const LONGEST_NAME = 60
const LARGEST_BYTES = 2 ** 32 - 1

/**
 * Owners are root's whatever is asked, times even seconds; no links of either kind, no attributes. A name is found whatever the case
 * of its letters, and listed as it was made.
 */
class PoorFileSystem extends BackedFileSystem {
  /** Names as they were made, by their directory and their small letters. */
  readonly #made = new Map<string, Buffer>()

  override lookup(context: RequestContext, parent: bigint, name: Buffer) {
    return super.lookup(context, parent, this.#known(parent, name))
  }

  override create(context: RequestContext, parent: bigint, name: Buffer, mode: number, flags: number) {
    return super.create(context, parent, this.#make(parent, name), mode, flags)
  }

  override mkdir(context: RequestContext, parent: bigint, name: Buffer, mode: number) {
    return super.mkdir(context, parent, this.#make(parent, name), mode)
  }

  override unlink(context: RequestContext, parent: bigint, name: Buffer): void {
    super.unlink(context, parent, this.#known(parent, name))
    this.#made.delete(keyOf(parent, name))
  }

  override rename(
    context: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): void {
    const replaced = this.#known(newParent, newName)
    super.rename(context, parent, this.#known(parent, name), newParent, replaced, flags)
    this.#made.delete(keyOf(parent, name))
    this.#made.set(keyOf(newParent, newName), replaced)
  }

  #known(parent: bigint, name: Buffer): Buffer {
    if (name.length > LONGEST_NAME) throw new FsError('ENAMETOOLONG')
    if (name.includes(':')) throw new FsError('EINVAL')
    return this.#made.get(keyOf(parent, name)) ?? Buffer.from(name)
  }

  #make(parent: bigint, name: Buffer): Buffer {
    const made = this.#known(parent, name)
    this.#made.set(keyOf(parent, name), made)
    return made
  }

  override link(): never {
    throw new FsError('EPERM')
  }

  override symlink(): never {
    throw new FsError('EPERM')
  }

  override setxattr(): never {
    throw new FsError('EOPNOTSUPP')
  }

  override write(context: RequestContext, id: bigint, handle: bigint, offset: number, data: Buffer): number {
    // A card that keeps something else than it was given, of what is marked so.
    const kept = Buffer.from(data)
    if (data.includes('rots')) kept[0] = (kept[0] ?? 0) ^ 1
    return super.write(context, id, handle, offset, kept)
  }

  override setattr(
    context: RequestContext,
    id: bigint,
    changes: AttributeChanges,
    handle: bigint | undefined,
  ): AttributeAnswer {
    const { atime, mtime, mode, size } = changes
    if (size !== undefined && size > LARGEST_BYTES) throw new FsError('EFBIG')
    const even = (time: typeof atime) =>
      typeof time === 'bigint' ? (time / TWO_SECONDS) * TWO_SECONDS : time
    const kept = { ...(mode !== undefined && { mode }), ...(size !== undefined && { size }) }
    const times = {
      ...(atime !== undefined && { atime: even(atime) }),
      ...(mtime !== undefined && { mtime: even(mtime) }),
    }
    return super.setattr(context, id, { ...kept, ...times } as AttributeChanges, handle)
  }
}

const keyOf = (parent: bigint, name: Buffer): string => `${parent}/${name.toString('latin1').toLowerCase()}`

const [directory = '', target = ''] = process.argv.slice(2)
process.umask(0)
const log = createLog({ level: 'error', name: 'poor', write: (line) => process.stderr.write(line) })
const { fd } = await mountKernel({ target, source: 'poor', fsname: 'poor-volume' })
const session = new KernelSession({ fd, fileSystem: new PoorFileSystem(directory), log })
session.start()
await session.ready
process.send?.('ready')
await session.done
process.disconnect?.()
