import { spawnSync } from 'node:child_process'
import { connect, createServer, type Server } from 'node:net'
import {
  LOCK_EX,
  LOCK_UN,
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_EXCL,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from './constants.ts'
import { libc, memoryAt, mmap, SyscallError } from './libc.ts'
import { posix } from './posix.ts'
import { snapshot } from './snapshot.ts'

const servers = new Set<Server>()

/** The directory by descriptor: a socket's address has room for 107 bytes, a path for 4,095. */
function withShortPath<T>(directory: string, name: string, use: (path: string) => Promise<T>): Promise<T> {
  const fd = posix.open(directory, O_PATH)
  return use(`/proc/self/fd/${fd}/${name}`).finally(() => posix.close(fd))
}

/** Runs `use` with `length` bytes of page-aligned memory, which O_DIRECT asks for. */
function withAlignedMemory<T>(length: number, use: (memory: Buffer) => T): T {
  const [PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS] = [3, 0x22]
  const address = mmap(length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
  try {
    return use(memoryAt(address, length))
  } finally {
    libc.munmap('aligned memory', address, length)
  }
}

/** Loops and longer programs that run inside one agent, so that agents work against each other at full speed. */
export const bulk = {
  /** Empty files `${prefix}${from}` to `${prefix}${to - 1}`. */
  createFiles(directory: string, prefix: string, from: number, to: number): void {
    for (let n = from; n < to; n++) posix.close(posix.open(`${directory}/${prefix}${n}`, O_CREAT | O_WRONLY))
  },
  /** Links a file to `${prefix}0` and on, up to `count` times or the limit of the file system; how many were made. */
  linkMany(existing: string, prefix: string, count: number): number {
    for (let n = 0; n < count; n++) {
      try {
        posix.link(existing, `${prefix}${n}`)
      } catch (error) {
        if (error instanceof SyscallError && error.code === 'EMLINK') return n
        throw error
      }
    }
    return count
  },
  unlinkFiles(directory: string, names: readonly Buffer[]): void {
    const path = Buffer.from(`${directory}/`)
    for (const name of names) posix.unlink(Buffer.concat([path, name]))
  },
  /** Creates and unlinks `count` files of its own, one after the other. */
  comeAndGo(directory: string, prefix: string, count: number): void {
    for (let n = 0; n < count; n++) {
      const path = `${directory}/${prefix}${n}`
      posix.writeFile(path, `${n}`)
      posix.unlink(path)
    }
  },
  /** Lists a directory `times` times: how often each name came, as [name, count, most often in one listing]. */
  listRepeatedly(
    directory: string,
    times: number,
    size: number,
  ): Map<string, { seen: number; most: number }> {
    const names = new Map<string, { seen: number; most: number }>()
    for (let n = 0; n < times; n++) {
      const once = new Map<string, number>()
      for (const { name } of posix.list(directory, size)) {
        const text = name.toString('latin1')
        once.set(text, (once.get(text) ?? 0) + 1)
      }
      for (const [name, count] of once) {
        const before = names.get(name) ?? { seen: 0, most: 0 }
        names.set(name, { seen: before.seen + 1, most: Math.max(before.most, count) })
      }
    }
    return names
  },
  /** Unlinks every entry as a listing hands it out; returns how many there were. */
  removeWhileListing(directory: string, size: number): number {
    const fd = posix.open(directory, O_RDONLY)
    let removed = 0
    for (;;) {
      const some = posix.readEntries(fd, size)
      if (some.length === 0) break
      for (const { name } of some) {
        if (['.', '..'].includes(name.toString('latin1'))) continue
        posix.unlink(Buffer.concat([Buffer.from(`${directory}/`), name]))
        removed += 1
      }
    }
    posix.close(fd)
    return removed
  },

  /** Tries to create each path with O_EXCL; the indexes of those that were not there. */
  createExclusively(paths: readonly string[]): number[] {
    return paths.flatMap((path, index) => {
      try {
        posix.close(posix.open(path, O_CREAT | O_EXCL | O_WRONLY))
        return [index]
      } catch (error) {
        if (error instanceof SyscallError && error.code === 'EEXIST') return []
        throw error
      }
    })
  },
  /** Appends `count` lines "tag number padding", each by one write of another length. */
  appendLines(path: string, tag: string, count: number): void {
    const fd = posix.open(path, O_WRONLY | O_CREAT | O_APPEND)
    for (let n = 0; n < count; n++) posix.write(fd, `${tag} ${n} ${tag.repeat((n * 37) % 300)}\n`)
    posix.close(fd)
  },
  /** Writes every `of`th block from block `index` on, filled with the number index + 1. */
  writeStripes(path: string, index: number, of: number, blocks: number, blockSize: number): void {
    const fd = posix.open(path, O_RDWR)
    for (let block = index; block < blocks; block += of) {
      posix.write(fd, Buffer.alloc(blockSize, index + 1), block * blockSize)
    }
    posix.close(fd)
  },
  /** Replaces a file `count` times by write to a new name and rename; each version is one letter, `size` times. */
  replaceRepeatedly(directory: string, name: string, count: number, size: number): void {
    for (let n = 0; n < count; n++) {
      const fresh = `${directory}/${name}.new`
      posix.writeFile(fresh, Buffer.alloc(size, 97 + (n % 26)))
      posix.rename(fresh, `${directory}/${name}`)
    }
  },
  /** Reads a file `count` times; what was wrong with any of them (a size or a mixture no version ever had). */
  readVersions(path: string, count: number, size: number): string[] {
    const wrong: string[] = []
    for (let n = 0; n < count; n++) {
      const content = posix.readFile(path)
      if (content.length !== size) wrong.push(`read ${n}: ${content.length} bytes`)
      else if (content.some((byte) => byte !== content[0])) wrong.push(`read ${n}: two versions in one`)
    }
    return wrong
  },
  /** Adds 1 to a number in a file, `count` times, each time under a lock of the whole file. */
  incrementUnderLock(path: string, count: number, kind: 'flock' | 'record'): void {
    const fd = posix.open(path, O_RDWR)
    for (let n = 0; n < count; n++) {
      if (kind === 'flock') posix.flock(fd, LOCK_EX)
      else posix.lock(fd, { type: 'write', start: 0, length: 0 }, { wait: true })
      const before = Number(posix.read(fd, 32, 0).toString() || '0')
      posix.write(fd, String(before + 1), 0)
      if (kind === 'flock') posix.flock(fd, LOCK_UN)
      else posix.lock(fd, { type: 'unlock', start: 0, length: 0 })
    }
    posix.close(fd)
  },

  directWrite(path: string, data: Buffer, offset: number): number {
    const fd = posix.open(path, O_WRONLY | O_DIRECT)
    try {
      return withAlignedMemory(data.length, (memory) => {
        data.copy(memory)
        return posix.write(fd, memory, offset)
      })
    } finally {
      posix.close(fd)
    }
  },
  directRead(path: string, length: number, offset: number): Buffer {
    const fd = posix.open(path, O_RDONLY | O_DIRECT)
    try {
      return withAlignedMemory(length, (memory) => {
        const got = libc.pread(path, fd, memory, length, offset)
        return Buffer.from(memory.subarray(0, got))
      })
    } finally {
      posix.close(fd)
    }
  },

  /** Touches `scratch` until its change time is later than `ns`: the file system's clock has moved on. */
  clockPast(scratch: string, ns: bigint): void {
    do posix.writeFile(scratch, 'x')
    while (posix.stat(scratch).ctimeNs <= ns)
  },

  /** Binds a Unix socket in the directory; whoever connects gets back what it sends. */
  listenOnSocket(directory: string, name: string): Promise<void> {
    return withShortPath(directory, name, (path) => {
      const server = createServer((peer) => peer.pipe(peer))
      servers.add(server)
      return new Promise((resolve, reject) => server.once('error', reject).listen(path, resolve))
    })
  },
  askSocket(directory: string, name: string, text: string): Promise<string> {
    return withShortPath(
      directory,
      name,
      (path) =>
        new Promise((resolve, reject) => {
          let answer = ''
          const peer = connect(path, () => peer.end(text))
          peer.on('data', (data) => (answer += data)).on('end', () => resolve(answer))
          peer.on('error', reject)
        }),
    )
  },
  closeSockets(): void {
    for (const server of servers) server.close()
    servers.clear()
  },

  /** Runs a program; `code` where it could not be started. */
  execute(path: string, args: readonly string[]): { status: number | null; stdout: string; code?: string } {
    const run = spawnSync(path, args, { encoding: 'utf8', cwd: '/' })
    const code = run.error !== undefined && 'code' in run.error ? String(run.error.code) : undefined
    return { status: run.status, stdout: run.stdout ?? '', ...(code !== undefined && { code }) }
  },

  /** Removes a tree whatever its names and depth are: rm goes through descriptors, so no path gets too long. */
  removeTree(path: string): void {
    const run = spawnSync('rm', ['-rf', '--one-file-system', '--', path], { encoding: 'utf8', cwd: '/' })
    if (run.status !== 0) throw new Error(`cannot remove ${path}: ${run.stderr}`)
  },

  snapshot,
}

export type Bulk = typeof bulk
