import { createHash } from 'node:crypto'
import {
  type BigIntStats,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'
import type { Stat, Walked } from '../actions.ts'

const READ_BYTES = 1 << 20

export function statOf(stat: BigIntStats): Stat {
  return {
    type: stat.isFile() ? 'file' : stat.isDirectory() ? 'dir' : stat.isSymbolicLink() ? 'symlink' : 'other',
    mode: Number(stat.mode) & 0o7777,
    size: Number(stat.size),
    links: Number(stat.nlink),
    mtime: Number(stat.mtimeNs / 1_000_000_000n),
    ino: String(stat.ino),
  }
}

/**
 * Everything below a directory, the directory first, in the order of names. `flags` are added to the open of files.
 * @throws the system call's error
 */
export function walkTree(root: Buffer, options: { content: boolean; flags?: number }): Walked[] {
  const found: Walked[] = []
  const visit = (absolute: Buffer, path: string): void => {
    const stat = statOf(lstatSync(absolute, { bigint: true }))
    found.push({
      path,
      ...stat,
      ...(stat.type === 'symlink' && { target: readlinkSync(absolute, 'latin1') }),
      ...(stat.type === 'file' && options.content && { sha256: sumOf(absolute, options.flags ?? 0) }),
    })
    if (stat.type !== 'dir') return
    for (const name of readdirSync(absolute, 'latin1').sort()) {
      const child = Buffer.concat([absolute, Buffer.from('/'), Buffer.from(name, 'latin1')])
      visit(child, path === '' ? name : `${path}/${name}`)
    }
  }
  visit(root, '')
  return found
}

function sumOf(path: Buffer, flags: number): string {
  const hash = createHash('sha256')
  const fd = openSync(path, constants.O_RDONLY | flags)
  const buffer = Buffer.allocUnsafe(READ_BYTES)
  try {
    for (let offset = 0; ; ) {
      const length = readSync(fd, buffer, 0, READ_BYTES, offset)
      if (length === 0) return hash.digest('hex')
      hash.update(buffer.subarray(0, length))
      offset += length
    }
  } finally {
    closeSync(fd)
  }
}
