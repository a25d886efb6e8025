import { constants, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { closeDescriptor, getXattr, listXattrs, O_PATH, openAt } from '../../../src/sys/index.ts'
import type { Described } from './client.ts'

const AT_FDCWD = -100

/** A directory on the volume, described as Client.tree describes the overlay. */
export function diskTree(root: string): Map<string, Described> {
  const found = new Map<string, Described>()
  const visit = (directory: Buffer, path: string): void => {
    const descriptor = openAt(AT_FDCWD, directory, O_PATH | constants.O_DIRECTORY)
    for (const name of readdirSync(directory, { encoding: 'buffer' })) {
      const file = Buffer.concat([directory, Buffer.from('/'), name])
      const stat = lstatSync(file, { bigint: true })
      const below = `${path}/${name.toString('latin1')}`
      const xattrs: Record<string, string> = {}
      for (const xattr of listXattrs(descriptor, name).sort(Buffer.compare)) {
        xattrs[xattr.toString('latin1')] = getXattr(descriptor, name, xattr).toString('latin1')
      }
      found.set(below, {
        mode: stat.mode.toString(8),
        owner: `${stat.uid}:${stat.gid}`,
        nlink: Number(stat.nlink),
        rdev: Number(stat.rdev),
        mtimeNs: stat.mtimeNs,
        size: stat.isDirectory() ? 0 : Number(stat.size),
        xattrs,
        content: stat.isFile()
          ? readFileSync(file)
          : stat.isSymbolicLink()
            ? readlinkSync(file, { encoding: 'buffer' })
            : Buffer.alloc(0),
      })
      if (stat.isDirectory()) visit(file, below)
    }
    closeDescriptor(descriptor)
  }
  visit(Buffer.from(root), '')
  return found
}

export interface Comparison {
  /** Fields that need not be equal. */
  readonly ignore?: ReadonlyArray<keyof Described>
}

/** What differs between two trees, one line a finding; empty if nothing does. */
export function differences(
  left: ReadonlyMap<string, Partial<Described>>,
  right: ReadonlyMap<string, Partial<Described>>,
  { ignore = [] }: Comparison = {},
): string[] {
  const found: string[] = []
  for (const path of [...new Set([...left.keys(), ...right.keys()])].sort()) {
    const a = left.get(path)
    const b = right.get(path)
    if (!a || !b) {
      found.push(`${path}: only ${a ? 'left' : 'right'}`)
      continue
    }
    for (const field of ['mode', 'owner', 'nlink', 'rdev', 'mtimeNs', 'size', 'xattrs', 'content'] as const) {
      if (ignore.includes(field)) continue
      // A directory's times and link count are the volume's own affair.
      if ((a.mode ?? '').startsWith('4') && (field === 'mtimeNs' || field === 'nlink')) continue
      const difference = compare(a[field], b[field])
      if (difference !== undefined) found.push(`${path}: ${field} ${difference}`)
    }
  }
  return found
}

function compare(a: Described[keyof Described] | undefined, b: typeof a): string | undefined {
  if (Buffer.isBuffer(a) && Buffer.isBuffer(b)) return compareBytes(a, b)
  const left = typeof a === 'object' ? JSON.stringify(a) : String(a)
  const right = typeof b === 'object' ? JSON.stringify(b) : String(b)
  return left === right ? undefined : `${left} | ${right}`
}

/** Where two runs of bytes differ first. */
export function compareBytes(a: Buffer, b: Buffer): string | undefined {
  if (a.equals(b)) return undefined
  let at = 0
  while (at < a.length && a[at] === b[at]) at += 1
  const show = (bytes: Buffer): string =>
    `${bytes.length} bytes, from ${at}: ${bytes.subarray(at, at + 16).toString('hex')}`
  return `${show(a)} | ${show(b)}`
}
