import fs, { existsSync, fdatasyncSync, fsyncSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

type Done = (error: Error | null) => void

const PAGE = 4096

interface Image {
  /** What is on the disk. */
  durable: Buffer
  /** What the file held when it was looked at last: a page that differs has been written since. */
  seen: Buffer
  /** Pages written with what was in them already. */
  readonly rewritten: Set<number>
}

/**
 * The disk below a directory, as the kernel shows it: a sync that fails says so once, and the pages that did not reach the
 * disk are clean from then on. Only what is written anew gets there with a later sync. `powerCut` leaves what is on the disk.
 */
export class ForgetfulDisk {
  readonly #root: string
  readonly #images = new Map<string, Image>()
  /** Names of files, by how they end, whose next sync fails. */
  readonly failing = new Set<string>()
  readonly synced: string[] = []

  constructor(root: string) {
    this.#root = root
    disks.add(this)
  }

  owns(path: string): boolean {
    return path.startsWith(`${this.#root}/`)
  }

  remove(): void {
    disks.delete(this)
  }

  /** Bytes were written that may be those that were there. */
  wrote(path: string, position: number, length: number): void {
    const { rewritten } = this.#image(path)
    for (let page = Math.floor(position / PAGE); page * PAGE < position + length; page += 1)
      rewritten.add(page)
  }

  /** True if the sync is to fail. */
  sync(path: string): boolean {
    this.synced.push(path)
    const failing = [...this.failing].find((suffix) => path.endsWith(suffix))
    if (failing !== undefined) this.failing.delete(failing)
    this.writeBack(path, failing === undefined)
    return failing !== undefined
  }

  /** The kernel writes what is dirty to the disk, or fails to; either way the pages are clean. */
  writeBack(path: string, reaches: boolean): void {
    // Removed since the sync began.
    if (!existsSync(path)) return
    const image = this.#image(path)
    const now = readFileSync(path)
    const durable = Buffer.alloc(now.length)
    image.durable.copy(durable)
    for (let page = 0; page * PAGE < now.length; page += 1) {
      const part = [page * PAGE, Math.min(now.length, (page + 1) * PAGE)] as const
      const written = image.rewritten.has(page) || !now.subarray(...part).equals(image.seen.subarray(...part))
      if (written && reaches) now.copy(durable, part[0], ...part)
    }
    image.durable = durable
    image.seen = now
    image.rewritten.clear()
  }

  /** The file holds what is on the disk. */
  powerCut(path: string, to = path): void {
    writeFileSync(to, this.#image(path).durable)
  }

  #image(path: string): Image {
    let image = this.#images.get(path)
    if (!image) {
      image = { durable: Buffer.alloc(0), seen: Buffer.alloc(0), rewritten: new Set() }
      this.#images.set(path, image)
    }
    return image
  }
}

const disks = new Set<ForgetfulDisk>()

function diskOf(fd: number): { disk: ForgetfulDisk; path: string } | undefined {
  if (disks.size === 0) return undefined
  const path = readlinkSync(`/proc/self/fd/${fd}`)
  for (const disk of disks) if (disk.owns(path)) return { disk, path }
  return undefined
}

const original = { write: fs.write, writeSync: fs.writeSync, fdatasync: fs.fdatasync, fsync: fs.fsync }

function sync(real: (fd: number, done: Done) => void, now: (fd: number) => void) {
  return (fd: number, done: Done): void => {
    const found = diskOf(fd)
    if (!found || fs.fstatSync(fd).isDirectory()) {
      real(fd, done)
      return
    }
    setImmediate(() => {
      now(fd)
      const failed = found.disk.sync(found.path)
      done(
        failed
          ? Object.assign(new Error('EIO: i/o error, fdatasync'), {
              code: 'EIO',
              errno: -5,
              syscall: 'fdatasync',
            })
          : null,
      )
    })
  }
}

type WriteSync = (fd: number, buffer: Buffer, offset: number, length: number, position: number) => number
type Write = (
  fd: number,
  buffer: Buffer,
  offset: number,
  length: number,
  position: number,
  done: (error: Error | null, count: number) => void,
) => void

Object.assign(fs, {
  writeSync: (...args: Parameters<WriteSync>): number => {
    const count = (original.writeSync as WriteSync)(...args)
    const found = diskOf(args[0])
    found?.disk.wrote(found.path, args[4], count)
    return count
  },
  write: (...args: Parameters<Write>): void => {
    const done = args[5]
    const found = diskOf(args[0])
    args[5] = (error, count) => {
      if (!error) found?.disk.wrote(found.path, args[4], count)
      done(error, count)
    }
    ;(original.write as unknown as Write)(...args)
  },
  fdatasync: sync(original.fdatasync, fdatasyncSync),
  fsync: sync(original.fsync, fsyncSync),
})
syncBuiltinESMExports()
