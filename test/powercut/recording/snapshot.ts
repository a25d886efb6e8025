import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import { isDirectory, isRegular, isSymlink } from '../../../src/base/attributes.ts'
import { closeDescriptor, getXattr, listXattrs, O_PATH, openAt, statAt } from '../../../src/sys/index.ts'
import { contentOf, type FileImage, newFile, PAGE, type VolumeImage } from '../disk/image.ts'

const AT_FDCWD = -100
const EMPTY = Buffer.alloc(PAGE)

/** What lies below a directory, as it is now. */
export function snapshot(root: string): VolumeImage {
  const files = new Map<number, FileImage>()
  const visit = (path: Buffer): number => {
    // As it is shown: libuv's stat goes past the shim.
    const stat = statAt(AT_FDCWD, path)
    const ino = Number(stat.ino)
    if (files.has(ino)) return ino
    const { mode, uid, gid, rdev, atimeNs, mtimeNs, ctimeNs, btimeNs } = stat
    const state = { mode, uid, gid, rdev, atimeNs, mtimeNs, ctimeNs, btimeNs }
    const target = isSymlink(mode) ? readlinkSync(path, { encoding: 'buffer' }).toString('latin1') : undefined
    const file = newFile(ino, state, target)
    files.set(ino, file)
    if (isRegular(mode)) {
      file.size = stat.size
      readPages(path, file)
    }
    readXattrs(path, file)
    if (isDirectory(mode)) {
      for (const name of readdirSync(path, { encoding: 'buffer' })) {
        file.children.set(name.toString('latin1'), visit(Buffer.concat([path, Buffer.from('/'), name])))
      }
    }
    return ino
  }
  return { root: visit(Buffer.from(root)), files }
}

function readPages(path: Buffer, file: FileImage): void {
  const descriptor = openSync(path, 'r')
  const content = Buffer.alloc(Math.ceil(file.size / PAGE) * PAGE)
  for (let at = 0, read = -1; read !== 0; at += read)
    read = readSync(descriptor, content, at, content.length - at, at)
  for (let page = 0; page * PAGE < file.size; page += 1) {
    const bytes = content.subarray(page * PAGE, (page + 1) * PAGE)
    if (!bytes.equals(EMPTY)) file.pages.set(page, bytes)
  }
  closeSync(descriptor)
}

function readXattrs(path: Buffer, file: FileImage): void {
  const at = path.lastIndexOf(0x2f)
  const descriptor = openAt(AT_FDCWD, path.subarray(0, at), O_PATH | constants.O_DIRECTORY)
  const name = path.subarray(at + 1)
  for (const xattr of listXattrs(descriptor, name)) {
    file.xattrs.set(xattr.toString('latin1'), getXattr(descriptor, name, xattr))
  }
  closeDescriptor(descriptor)
}

/** What differs between two states of a volume, sparse pages and times of access aside; empty if nothing does. */
export function differencesOf(expected: VolumeImage, found: VolumeImage): string[] {
  const problems: string[] = []
  const visit = (own: number, other: number, path: string): void => {
    const a = expected.files.get(own)
    const b = found.files.get(other)
    if (!a || !b || own !== other) {
      problems.push(`${path}: inode ${own} | ${other}`)
      return
    }
    // No call tells of a store into a mapped page, which moves the times as well if the kernel has just written the page back.
    const isMapped = path.endsWith('-shm')
    const describe = ({ state: { mode, uid, gid, rdev, mtimeNs, ctimeNs }, target, xattrs }: FileImage) =>
      JSON.stringify([
        mode,
        uid,
        gid,
        rdev,
        ...(isMapped ? [] : [String(mtimeNs), String(ctimeNs)]),
        target,
        [...xattrs].map(String).sort(),
      ])
    if (describe(a) !== describe(b)) problems.push(`${path}: ${describe(a)} | ${describe(b)}`)
    if (!isMapped && !contentOf(a).equals(contentOf(b))) problems.push(`${path}: content`)
    for (const name of new Set([...a.children.keys(), ...b.children.keys()])) {
      const [one, two] = [a.children.get(name), b.children.get(name)]
      if (one === undefined || two === undefined)
        problems.push(`${path}/${name}: only ${one ? 'expected' : 'found'}`)
      else visit(one, two, `${path}/${name}`)
    }
  }
  visit(expected.root, found.root, '')
  return problems
}
