import { constants } from 'node:fs'
import { isDirectory } from '../../../src/base/attributes.ts'
import type { DirectorySink, Entry } from '../../../src/fuse/operations.ts'
import type { Caller, Rig } from './rig.ts'

const ROOT = 1n

/** What applications do, by path, through the operations that the kernel would send. */
export class Client {
  readonly #rig: Rig

  constructor(rig: Rig) {
    this.#rig = rig
  }

  /** The node behind a path, looked up from the root, as a kernel that has nothing cached does. */
  async lookup(path: string): Promise<Entry | undefined> {
    let entry: Entry | undefined
    for (const name of parts(path)) {
      const parent = entry?.nodeId ?? ROOT
      entry = await this.#rig.perform((overlay, request) => overlay.lookup(request, parent, bytes(name)))
    }
    return entry
  }

  async node(path: string): Promise<bigint> {
    return (await this.lookup(path))?.nodeId ?? ROOT
  }

  /** Parent node and last name. */
  async place(path: string): Promise<{ parent: bigint; name: Buffer }> {
    const names = parts(path)
    const name = names.pop() ?? ''
    return { parent: await this.node(names.join('/')), name: bytes(name) }
  }

  async exists(path: string): Promise<boolean> {
    try {
      await this.lookup(path)
      return true
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
      throw error
    }
  }

  async create(path: string, content = '', caller: Partial<Caller> = {}): Promise<bigint> {
    const { parent, name } = await this.place(path)
    const { entry, open } = await this.#rig.perform(
      (overlay, request) => overlay.create(request, parent, name, 0o644, constants.O_RDWR),
      caller,
    )
    if (content !== '') await this.write(entry.nodeId, 0, content)
    await this.close(entry.nodeId, open.handle)
    return entry.nodeId
  }

  async open(node: bigint, flags = constants.O_RDWR): Promise<bigint> {
    return (await this.#rig.perform((overlay, request) => overlay.open(request, node, flags))).handle
  }

  async close(node: bigint, handle: bigint): Promise<void> {
    await this.#rig.perform((overlay, request) => overlay.flush(request, node))
    await this.#rig.perform((overlay, request) => overlay.release(request, node, handle))
  }

  write(node: bigint, offset: number, data: string | Buffer): Promise<number> {
    const buffer = Buffer.from(data)
    return this.#rig.perform((overlay, request) =>
      overlay.write(request, node, 0n, offset, buffer, { killSuidGid: false, flags: 0 }),
    )
  }

  /** Opens, writes and closes. */
  async overwrite(path: string, offset: number, data: string | Buffer): Promise<void> {
    const node = await this.node(path)
    const handle = await this.open(node)
    await this.write(node, offset, data)
    await this.close(node, handle)
  }

  read(node: bigint, offset = 0, size = 1 << 26): Promise<Buffer> {
    return this.#rig.perform((overlay, request) => overlay.read(request, node, 0n, offset, size))
  }

  async readPath(path: string): Promise<string> {
    return (await this.read(await this.node(path))).toString()
  }

  truncate(node: bigint, size: number): Promise<unknown> {
    return this.#rig.perform((overlay, request) => overlay.setattr(request, node, { size }))
  }

  async mkdir(path: string): Promise<bigint> {
    const { parent, name } = await this.place(path)
    return (await this.#rig.perform((overlay, request) => overlay.mkdir(request, parent, name, 0o755))).nodeId
  }

  async symlink(path: string, to: string): Promise<void> {
    const { parent, name } = await this.place(path)
    await this.#rig.perform((overlay, request) => overlay.symlink(request, parent, name, Buffer.from(to)))
  }

  async link(from: string, to: string): Promise<void> {
    const node = await this.node(from)
    const { parent, name } = await this.place(to)
    await this.#rig.perform((overlay, request) => overlay.link(request, node, parent, name))
  }

  async unlink(path: string): Promise<void> {
    const { parent, name } = await this.place(path)
    await this.#rig.perform((overlay, request) => overlay.unlink(request, parent, name))
  }

  async rename(from: string, to: string, flags = 0): Promise<void> {
    const source = await this.place(from)
    const target = await this.place(to)
    await this.#rig.perform((overlay, request) =>
      overlay.rename(request, source.parent, source.name, target.parent, target.name, flags),
    )
  }

  /** Names in a directory as READDIR lists them, in several answers of `room` entries, without "." and "..". */
  async list(node: bigint, room = 1000): Promise<Buffer[]> {
    const { handle } = await this.#rig.perform((overlay, request) => overlay.opendir(request, node))
    const names: Buffer[] = []
    for (let cookie = 0n; ; ) {
      const before = cookie
      let left = room
      const listed = names.length
      const sink: DirectorySink = {
        plus: false,
        hasRoom: () => left > 0,
        add: (item) => {
          left -= 1
          cookie = item.cookie
          if (!item.name.equals(bytes('.')) && !item.name.equals(bytes('..'))) names.push(item.name)
        },
        clear: () => {
          names.length = listed
          left = room
          cookie = before
        },
      }
      await this.#rig.perform((overlay, request) => overlay.readdir(request, node, handle, before, sink))
      if (cookie === before) break
    }
    await this.#rig.perform((overlay, request) => overlay.releasedir(request, node, handle))
    return names
  }

  /** The kernel drops all that it has cached. More look-ups than a worker knows of: its predecessors answered some. */
  forgetAll(): void {
    for (const { ino } of [...this.#rig.catalog.scan()]) {
      if (ino !== ROOT) this.#rig.overlay.forget(ino, 1n << 32n)
    }
  }

  /** Every path below the root with all that stat(2), read(2), readlink(2) and listxattr(2) say. */
  async tree(): Promise<Map<string, Described>> {
    const found = new Map<string, Described>()
    const visit = async (node: bigint, path: string): Promise<void> => {
      for (const name of await this.list(node)) {
        const entry = await this.#rig.perform((overlay, request) => overlay.lookup(request, node, name))
        const below = `${path}/${name.toString('latin1')}`
        found.set(below, await this.describe(entry.nodeId))
        if (isDirectory(entry.attributes.mode)) await visit(entry.nodeId, below)
        this.#rig.overlay.forget(entry.nodeId, 1n)
      }
    }
    await visit(ROOT, '')
    return found
  }

  async describe(node: bigint): Promise<Described> {
    const { attributes } = await this.#rig.perform((overlay, request) => overlay.getattr(request, node))
    const { mode, uid, gid, nlink, rdev, size, mtimeNs } = attributes
    const type = mode & constants.S_IFMT
    const names = await this.#rig.perform((overlay, request) => overlay.listxattr(request, node))
    const xattrs: Record<string, string> = {}
    for (const name of names.sort(Buffer.compare)) {
      const value = await this.#rig.perform((overlay, request) => overlay.getxattr(request, node, name))
      xattrs[name.toString('latin1')] = value.toString('latin1')
    }
    return {
      mode: mode.toString(8),
      owner: `${uid}:${gid}`,
      nlink,
      rdev,
      mtimeNs,
      size: type === constants.S_IFDIR ? 0 : size,
      xattrs,
      content:
        type === constants.S_IFREG
          ? await this.read(node, 0, size)
          : type === constants.S_IFLNK
            ? await this.#rig.perform((overlay, request) => overlay.readlink(request, node))
            : Buffer.alloc(0),
    }
  }
}

/** What can be seen of one file. */
export interface Described {
  readonly mode: string
  readonly owner: string
  readonly nlink: number
  readonly rdev: number
  readonly mtimeNs: bigint
  readonly size: number
  readonly xattrs: Readonly<Record<string, string>>
  /** Bytes of a regular file, target of a symlink. */
  readonly content: Buffer
}

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '')
const bytes = (name: string): Buffer => Buffer.from(name, 'latin1')
