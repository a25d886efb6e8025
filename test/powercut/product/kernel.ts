import { constants } from 'node:fs'
import { isDirectory, isRegular, isSymlink } from '../../../src/base/attributes.ts'
import { FsError, reasonOf } from '../../../src/base/errors.ts'
import type { AttributeChanges, Attributes, DirectorySink } from '../../../src/fuse/operations.ts'
import { CHUNK_BYTES } from '../../../src/content/index.ts'
import { SEEK_DATA, SEEK_HOLE } from '../../../src/sys/index.ts'
import type { Daemon } from './daemon.ts'

const ROOT = 1n
const bytes = (name: string): Buffer => Buffer.from(name, 'latin1')
const parts = (path: string): string[] => path.split('/').filter((part) => part !== '')

/** What can be seen of one file. */
export interface Seen {
  readonly attributes: Attributes
  /** Of a regular file. Chunks that cannot be read are zeros here. */
  readonly content: Buffer | undefined
  /** Those chunks, by index, and the errors. */
  readonly lost: ReadonlyMap<number, string>
  readonly target: string | undefined
  readonly xattrs: ReadonlyMap<string, string>
}

/** What applications ask by path, in the requests that a kernel makes of it, with nothing cached. */
export class Kernel {
  readonly #daemon: Daemon

  constructor(daemon: Daemon) {
    this.#daemon = daemon
  }

  async node(path: string): Promise<bigint> {
    let node = ROOT
    for (const name of parts(path)) {
      const parent = node
      const entry = await this.#daemon.perform(`look-up of ${path}`, (fs, request) =>
        fs.lookup(request, parent, bytes(name)),
      )
      node = entry.nodeId
    }
    return node
  }

  async #place(path: string): Promise<{ parent: bigint; name: Buffer }> {
    const names = parts(path)
    const name = names.pop() ?? ''
    return { parent: await this.node(names.join('/')), name: bytes(name) }
  }

  async create(path: string, mode: number): Promise<void> {
    const { parent, name } = await this.#place(path)
    const { entry, open } = await this.#daemon.perform(`create ${path}`, (fs, request) =>
      fs.create(request, parent, name, mode, constants.O_RDWR),
    )
    await this.#close(path, entry.nodeId, open.handle)
  }

  async write(path: string, offset: number, data: Buffer): Promise<void> {
    const node = await this.node(path)
    const { handle } = await this.#daemon.perform(`open ${path}`, (fs, request) =>
      fs.open(request, node, constants.O_RDWR),
    )
    try {
      await this.#daemon.perform(`write ${path}`, (fs, request) =>
        fs.write(request, node, handle, offset, Buffer.from(data), { killSuidGid: false, flags: 0 }),
      )
    } finally {
      await this.#close(path, node, handle)
    }
  }

  async #close(path: string, node: bigint, handle: bigint): Promise<void> {
    await this.#daemon.perform(`close ${path}`, (fs, request) => fs.flush(request, node, handle))
    await this.#daemon.perform(`release ${path}`, (fs, request) => fs.release(request, node, handle))
  }

  async setattr(path: string, changes: AttributeChanges): Promise<void> {
    const node = await this.node(path)
    await this.#daemon.perform(`setattr ${path}`, (fs, request) =>
      fs.setattr(request, node, changes, undefined),
    )
  }

  async fallocate(path: string, mode: number, offset: number, length: number): Promise<void> {
    const node = await this.node(path)
    await this.#daemon.perform(`fallocate ${path}`, (fs, request) =>
      fs.fallocate(request, node, 0n, mode, offset, length),
    )
  }

  async fsync(path: string, dataOnly: boolean): Promise<void> {
    const node = await this.node(path)
    await this.#daemon.perform(`fsync ${path}`, (fs, request) => fs.fsync(request, node, 0n, dataOnly))
  }

  async fsyncDirectory(path: string): Promise<void> {
    const node = await this.node(path)
    await this.#daemon.perform(`fsync of directory ${path}`, (fs, request) =>
      fs.fsyncdir(request, node, 0n, false),
    )
  }

  async syncfs(): Promise<void> {
    await this.#daemon.perform('syncfs', (fs, request) => fs.syncfs(request))
  }

  async mkdir(path: string, mode: number): Promise<void> {
    const { parent, name } = await this.#place(path)
    await this.#daemon.perform(`mkdir ${path}`, (fs, request) => fs.mkdir(request, parent, name, mode))
  }

  async symlink(path: string, target: string): Promise<void> {
    const { parent, name } = await this.#place(path)
    await this.#daemon.perform(`symlink ${path}`, (fs, request) =>
      fs.symlink(request, parent, name, bytes(target)),
    )
  }

  async link(path: string, to: string): Promise<void> {
    const node = await this.node(path)
    const { parent, name } = await this.#place(to)
    await this.#daemon.perform(`link ${path}`, (fs, request) => fs.link(request, node, parent, name))
  }

  async unlink(path: string): Promise<void> {
    const { parent, name } = await this.#place(path)
    const node = await this.node(path)
    await this.#daemon.perform(`unlink ${path}`, (fs, request) => fs.unlink(request, parent, name))
    this.#daemon.fileSystem.forget(node, 1n << 32n)
  }

  async rmdir(path: string): Promise<void> {
    const { parent, name } = await this.#place(path)
    const node = await this.node(path)
    await this.#daemon.perform(`rmdir ${path}`, (fs, request) => fs.rmdir(request, parent, name))
    this.#daemon.fileSystem.forget(node, 1n << 32n)
  }

  /** `replaced`: the name is taken by a file that goes. */
  async rename(path: string, to: string, replaces: boolean): Promise<void> {
    const from = await this.#place(path)
    const target = await this.#place(to)
    const gone = replaces ? await this.node(to) : undefined
    await this.#daemon.perform(`rename ${path}`, (fs, request) =>
      fs.rename(request, from.parent, from.name, target.parent, target.name, 0),
    )
    if (gone !== undefined) this.#daemon.fileSystem.forget(gone, 1n << 32n)
  }

  async setxattr(path: string, name: string, value: string): Promise<void> {
    const node = await this.node(path)
    await this.#daemon.perform(`setxattr ${path}`, (fs, request) =>
      fs.setxattr(request, node, bytes(name), bytes(value), 0),
    )
  }

  async read(path: string, offset: number, size: number): Promise<Buffer> {
    const node = await this.node(path)
    return Buffer.from(
      await this.#daemon.perform(`read ${path}`, (fs, request) => fs.read(request, node, 0n, offset, size)),
    )
  }

  /** Everything below the root. */
  async tree(): Promise<Map<string, Seen>> {
    const found = new Map<string, Seen>()
    const visit = async (node: bigint, path: string): Promise<void> => {
      for (const name of await this.#list(node, path)) {
        const below = `${path}/${name.toString('latin1')}`
        const { nodeId, seen } = await this.#meet(node, name, below)
        found.set(below, seen)
        if (isDirectory(seen.attributes.mode)) await visit(nodeId, below)
      }
    }
    await visit(ROOT, '')
    return found
  }

  /** A node that is gone since it was looked up is looked up again, as the kernel does it. */
  async #meet(parent: bigint, name: Buffer, path: string): Promise<{ nodeId: bigint; seen: Seen }> {
    for (let tries = 0; ; tries += 1) {
      const { nodeId } = await this.#daemon.perform(`look-up of ${path}`, (fs, request) =>
        fs.lookup(request, parent, name),
      )
      try {
        const seen = await this.#look(path, nodeId)
        // Found at its first read to be another than the catalog knew: it is what it is from then on.
        const isShort = [...seen.lost.values()].some((why) => why.includes('bytes of'))
        if (!isShort || tries > 0) return { nodeId, seen }
      } catch (error) {
        if (!(error instanceof FsError && error.code === 'ESTALE') || tries > 0) throw error
      }
    }
  }

  async #list(node: bigint, path: string): Promise<Buffer[]> {
    const { handle } = await this.#daemon.perform(`opendir ${path}`, (fs, request) =>
      fs.opendir(request, node, 0),
    )
    const names: Buffer[] = []
    for (let cookie = 0n; ; ) {
      const before = cookie
      const sink: DirectorySink = {
        plus: false,
        hasRoom: () => true,
        add: (item) => {
          cookie = item.cookie
          if (!item.name.equals(bytes('.')) && !item.name.equals(bytes('..'))) names.push(item.name)
        },
        clear: () => undefined,
      }
      await this.#daemon.perform(`readdir ${path}`, (fs, request) =>
        fs.readdir(request, node, handle, before, sink),
      )
      if (cookie === before) break
    }
    await this.#daemon.perform(`releasedir ${path}`, (fs, request) => fs.releasedir(request, node, handle))
    return names
  }

  async #look(path: string, node: bigint): Promise<Seen> {
    const { attributes } = await this.#daemon.perform(`stat ${path}`, (fs, request) =>
      fs.getattr(request, node, undefined),
    )
    const xattrs = new Map<string, string>()
    for (const name of await this.#daemon.perform(`xattrs of ${path}`, (fs, request) =>
      fs.listxattr(request, node),
    )) {
      const value = await this.#daemon.perform(`xattr of ${path}`, (fs, request) =>
        fs.getxattr(request, node, name),
      )
      xattrs.set(name.toString('latin1'), Buffer.from(value).toString('latin1'))
    }
    const lost = new Map<number, string>()
    return {
      attributes,
      xattrs,
      lost,
      content: isRegular(attributes.mode)
        ? await this.#content(path, node, attributes.size, lost)
        : undefined,
      target: isSymlink(attributes.mode)
        ? Buffer.from(
            await this.#daemon.perform(`readlink ${path}`, (fs, request) => fs.readlink(request, node)),
          ).toString('latin1')
        : undefined,
    }
  }

  async #content(path: string, node: bigint, size: number, lost: Map<number, string>): Promise<Buffer> {
    const content = Buffer.alloc(size)
    // Before anything is read: what copies a file asks first, and makes zeros of what it passes over.
    const holes = await this.#holes(path, node, size)
    for (let at = 0; at < size; at += CHUNK_BYTES) {
      try {
        const length = Math.min(CHUNK_BYTES, size - at)
        const bytes = await this.#daemon.perform(`read ${path}`, (fs, request) =>
          fs.read(request, node, 0n, at, length),
        )
        if (bytes.length < length) lost.set(at / CHUNK_BYTES, `${bytes.length} bytes of ${length}`)
        bytes.copy(content, at)
      } catch (error) {
        if (!(error instanceof FsError)) throw error
        lost.set(at / CHUNK_BYTES, `${error.code} (${reasonOf(error)})`)
      }
    }
    for (const { start, end } of holes) {
      const isLost = [...lost.keys()].some(
        (index) => index * CHUNK_BYTES < end && (index + 1) * CHUNK_BYTES > start,
      )
      if (isLost || content.subarray(start, end).some((byte) => byte !== 0))
        throw new Error(`P1: ${path} is said to have a hole from ${start} to ${end}, and reads otherwise`)
    }
    return content
  }

  /** What SEEK_DATA passes over. A file whose holes cannot be had has none. */
  async #holes(path: string, node: bigint, size: number): Promise<{ start: number; end: number }[]> {
    const holes: { start: number; end: number }[] = []
    const seek = (at: number, whence: number): Promise<number> =>
      this.#daemon.perform(`lseek ${path}`, (fs, request) => fs.lseek(request, node, 0n, at, whence))
    try {
      for (let at = 0; at < size; ) {
        const data = await seek(at, SEEK_DATA).catch((error: unknown) => {
          if (error instanceof FsError && error.code === 'ENXIO') return size
          throw error
        })
        if (data > at) holes.push({ start: at, end: data })
        at = data < size ? await seek(data, SEEK_HOLE) : size
      }
    } catch (error) {
      if (!(error instanceof FsError)) throw error
    }
    return holes
  }
}
