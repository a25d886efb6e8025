import { FsError, reasonOf } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
import type { AttributeChanges, Attributes, FileSystem, RequestContext, StatFs } from '../operations.ts'
import { HiddenFiles } from './hidden-files.ts'
import { collectDirectory, type Listing } from './listing.ts'
import { type Held, Nodes } from './nodes.ts'
import { type OpenFile, OpenFiles } from './open-files.ts'
import { exactText, refuseMangled } from './paths.ts'

const S_ISUID = 0o4000
const S_ISGID = 0o2000
const ACL_PREFIX = 'system.posix_acl_'

/**
 * Every request looks as if the user who mounted had made it: fuse-native does not say who did. Requests have no numbers
 * and are never repeated, and an interrupt is not passed on.
 */
class Unknown implements RequestContext {
  readonly uid = process.geteuid?.() ?? 0
  readonly gid = process.getegid?.() ?? 0
  readonly pid = 0
  /** libfuse has the kernel apply it. */
  readonly umask = 0
  readonly unique = 0n
  readonly resent = false

  get signal(): AbortSignal {
    // One for each request: what waits on it is let go with it.
    return new AbortController().signal
  }
}

/**
 * A file system of node ids as one of paths. Methods fail with an FsError, or whatever the file system throws; an answer
 * means that the file system has given it.
 */
export class Bridge {
  readonly #fileSystem: FileSystem
  readonly #context = new Unknown()
  readonly #nodes: Nodes
  readonly #files = new OpenFiles()
  readonly #hidden: HiddenFiles

  constructor(fileSystem: FileSystem, log: Log) {
    this.#fileSystem = fileSystem
    this.#nodes = new Nodes(fileSystem)
    this.#hidden = new HiddenFiles(async (parent, name) => {
      try {
        await fileSystem.unlink(this.#context, parent.node, name)
      } catch (error) {
        log.warn({ err: error, name: name.toString() }, `an unlinked open file stays: ${reasonOf(error)}`)
      }
    })
  }

  /** Lets go of everything that is only remembered, with what libfuse has hidden removed. */
  async close(): Promise<void> {
    await this.#hidden.settleAll()
    this.#nodes.clear()
  }

  async #resolve(path: string): Promise<Held> {
    const hidden = this.#hidden.nodeAt(path)
    return hidden === undefined ? this.#nodes.resolve(this.#context, path) : this.#nodes.again(hidden)
  }

  async #with<T>(path: string, body: (held: Held) => T | Promise<T>): Promise<T> {
    const held = await this.#resolve(path)
    try {
      return await body(held)
    } finally {
      held.release()
    }
  }

  async #inParent<T>(path: string, body: (parent: bigint, name: Buffer) => T | Promise<T>): Promise<T> {
    const { parent, name } = await this.#nodes.placeOf(this.#context, path)
    try {
      return await body(parent.node, name)
    } finally {
      parent.release()
    }
  }

  getattr(path: string): Promise<Attributes> {
    return this.#with(path, async ({ node, entry }) => {
      if (entry) return entry.attributes
      return (await this.#fileSystem.getattr(this.#context, node, undefined)).attributes
    })
  }

  async fgetattr(number: number): Promise<Attributes> {
    const { held, handle } = this.#files.get(number)
    return (await this.#fileSystem.getattr(this.#context, held.node, handle)).attributes
  }

  async statfs(): Promise<StatFs> {
    return this.#fileSystem.statfs(this.#context, 1n)
  }

  /** The whole directory: libfuse asks for nothing less. */
  async readdir(path: string): Promise<Listing> {
    await this.#hidden.settleIn(path)
    return this.#with(path, ({ node }) => collectDirectory(this.#fileSystem, this.#context, node))
  }

  readlink(path: string): Promise<string> {
    return this.#with(path, async ({ node }) =>
      exactText(await this.#fileSystem.readlink(this.#context, node)),
    )
  }

  async mknod(path: string, mode: number, device: number): Promise<void> {
    // The file will be the mounting user's, whoever makes it: nobody may make programs that run with his rights.
    const safe = mode & ~(S_ISUID | S_ISGID)
    const entry = await this.#inParent(path, (parent, name) =>
      this.#fileSystem.mknod(this.#context, parent, name, safe, device),
    )
    this.#nodes.hold(entry).release()
  }

  async mkdir(path: string, mode: number): Promise<void> {
    const entry = await this.#inParent(path, (parent, name) =>
      this.#fileSystem.mkdir(this.#context, parent, name, mode),
    )
    this.#nodes.hold(entry).release()
  }

  async symlink(target: string, path: string): Promise<void> {
    refuseMangled(target)
    const entry = await this.#inParent(path, (parent, name) =>
      this.#fileSystem.symlink(this.#context, parent, name, Buffer.from(target)),
    )
    this.#nodes.hold(entry).release()
  }

  async link(from: string, to: string): Promise<void> {
    const entry = await this.#with(from, ({ node }) =>
      this.#inParent(to, (parent, name) => this.#fileSystem.link(this.#context, node, parent, name)),
    )
    this.#nodes.hold(entry).release()
  }

  async unlink(path: string): Promise<void> {
    // libfuse lets go of a name that it made itself; where the last handle did, the file system has none.
    if (await this.#hidden.forget(path)) return
    await this.#inParent(path, (parent, name) => this.#fileSystem.unlink(this.#context, parent, name))
  }

  async rmdir(path: string): Promise<void> {
    await this.#hidden.settleIn(path)
    await this.#inParent(path, (parent, name) => this.#fileSystem.rmdir(this.#context, parent, name))
    this.#nodes.moved(path)
  }

  async rename(from: string, to: string): Promise<void> {
    const moved = await this.#resolve(from)
    const hides = this.#hidden.isHiding(from, to) && this.#files.isOpen(moved.node)
    try {
      await this.#inParent(from, (parent, name) =>
        this.#inParent(to, (newParent, newName) =>
          this.#fileSystem.rename(this.#context, parent, name, newParent, newName, 0),
        ),
      )
      this.#files.moved(from, to)
      this.#nodes.moved(from)
      this.#nodes.moved(to)
      if (hides) {
        const { parent, name } = await this.#nodes.placeOf(this.#context, to)
        this.#hidden.add(from, to, { held: this.#nodes.again(moved.node), parent, name })
      } else {
        await this.#hidden.settleReplaced(to)
      }
    } finally {
      moved.release()
    }
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#change(path, { mode })
  }

  /** An id of 2^32 - 1 stays as it is. */
  chown(path: string, uid: number, gid: number): Promise<void> {
    const same = 0xffff_ffff
    return this.#change(path, { ...(uid === same ? {} : { uid }), ...(gid === same ? {} : { gid }) })
  }

  utimens(path: string, atime: bigint, mtime: bigint): Promise<void> {
    return this.#change(path, { atime, mtime })
  }

  #change(path: string, changes: AttributeChanges): Promise<void> {
    return this.#with(path, async ({ node }) => {
      await this.#fileSystem.setattr(this.#context, node, changes, undefined)
    })
  }

  truncate(path: string, size: number): Promise<void> {
    return this.#with(path, async ({ node }) => {
      this.#files.checkChange(node, path)
      await this.#fileSystem.setattr(this.#context, node, { size }, undefined)
    })
  }

  async ftruncate(number: number, size: number): Promise<void> {
    const { held, handle } = this.#files.get(number)
    await this.#fileSystem.setattr(this.#context, held.node, { size }, handle)
  }

  async open(path: string, flags: number): Promise<number> {
    const held = await this.#resolve(path)
    try {
      this.#files.checkOpen(held.node, path, flags)
      const { handle } = await this.#fileSystem.open(this.#context, held.node, flags)
      return this.#files.add({ held, handle, flags, path })
    } catch (error) {
      held.release()
      throw error
    }
  }

  read(number: number, offset: number, size: number): Promise<Buffer> {
    return this.#onFile(number, ({ held, handle }) =>
      this.#fileSystem.read(this.#context, held.node, handle, offset, size),
    )
  }

  write(number: number, offset: number, data: Buffer): Promise<number> {
    return this.#onFile(number, ({ held, handle, flags }) =>
      // The kernel takes set-id bits away by a change of mode of its own.
      this.#fileSystem.write(this.#context, held.node, handle, offset, data, { killSuidGid: false, flags }),
    )
  }

  flush(number: number): Promise<void> {
    return this.#onFile(number, ({ held, handle }) =>
      this.#fileSystem.flush(this.#context, held.node, handle),
    )
  }

  fsync(number: number, dataOnly: boolean): Promise<void> {
    return this.#onFile(number, ({ held, handle }) =>
      this.#fileSystem.fsync(this.#context, held.node, handle, dataOnly),
    )
  }

  async release(number: number): Promise<void> {
    const { held, handle } = this.#files.get(number)
    this.#files.delete(number)
    try {
      await this.#fileSystem.release(this.#context, held.node, handle)
      if (!this.#files.isOpen(held.node)) await this.#hidden.closed(held.node)
    } finally {
      held.release()
    }
  }

  async #onFile<T>(number: number, body: (file: OpenFile) => T | Promise<T>): Promise<T> {
    return body(this.#files.get(number))
  }

  fsyncdir(path: string, dataOnly: boolean): Promise<void> {
    return this.#with(path, async ({ node }) => {
      const { handle } = await this.#fileSystem.opendir(this.#context, node, 0)
      try {
        await this.#fileSystem.fsyncdir(this.#context, node, handle, dataOnly)
      } finally {
        await this.#fileSystem.releasedir(this.#context, node, handle)
      }
    })
  }

  async setxattr(path: string, name: string, value: Buffer, flags: number): Promise<void> {
    refuseMangled(name)
    // The kernel checks lists only where the transport has asked it to; one that nobody keeps to must not be set.
    if (name.startsWith(ACL_PREFIX)) {
      throw new FsError('EOPNOTSUPP', 'fuse-native has no access control lists; use --transport kernel')
    }
    // The bytes are libfuse's own and gone with the answer.
    const copy = Buffer.from(value)
    return this.#with(path, ({ node }) =>
      this.#fileSystem.setxattr(this.#context, node, Buffer.from(name), copy, flags),
    )
  }

  async getxattr(path: string, name: string): Promise<Buffer> {
    refuseMangled(name)
    return this.#with(path, ({ node }) => this.#fileSystem.getxattr(this.#context, node, Buffer.from(name)))
  }

  listxattr(path: string): Promise<Buffer[]> {
    return this.#with(path, ({ node }) => this.#fileSystem.listxattr(this.#context, node))
  }

  async removexattr(path: string, name: string): Promise<void> {
    refuseMangled(name)
    return this.#with(path, ({ node }) =>
      this.#fileSystem.removexattr(this.#context, node, Buffer.from(name)),
    )
  }
}
