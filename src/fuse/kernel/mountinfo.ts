import { readFileSync } from 'node:fs'
import { isWithin } from '../../base/paths.ts'

/** One line of /proc/self/mountinfo, proc(5). */
export interface MountEntry {
  /** As `mnt_id` in /proc/<pid>/fdinfo has it; the same in no other mount namespace. */
  readonly id: string
  /** Of the mount that this one is mounted on. */
  readonly parent: string
  /** What of the file system is mounted, as a path in it: `/` unless it is a bind mount or a subvolume. */
  readonly root: string
  readonly mountPoint: string
  /** `rw`, `nosuid`, `relatime` … of this mount. */
  readonly flags: readonly string[]
  /** `shared:7`, `master:3` …: where it takes part in propagation, mount_namespaces(7). */
  readonly propagation: readonly string[]
  /** `major:minor` of st_dev of the files on it. */
  readonly device: string
  /** With the subtype, for example `fuse.ferryfs`. */
  readonly type: string
  readonly source: string
  /** Options of the file system itself, not of this mount of it. */
  readonly options: string
}

/** The kernel writes blank, tab, line feed and backslash in paths as octal numbers. */
function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text
  const bytes = Buffer.from(text, 'latin1')
  const out = Buffer.alloc(bytes.length)
  let length = 0
  for (let at = 0; at < bytes.length; length++) {
    const digits = /^\\([0-3][0-7]{2})/.exec(bytes.toString('latin1', at, at + 4))?.[1]
    out[length] = digits === undefined ? (bytes[at] ?? 0) : Number.parseInt(digits, 8)
    at += digits === undefined ? 1 : 4
  }
  return out.toString('latin1', 0, length)
}

const decode = (field: string): string => Buffer.from(unescapeOctal(field), 'latin1').toString('utf8')

/** Reads the text of a mountinfo file; lines that are not as proc(5) says are left out. */
export function parseMountinfo(text: Buffer): MountEntry[] {
  const entries: MountEntry[] = []
  for (const line of text.toString('latin1').split('\n')) {
    const fields = line.split(' ')
    const separator = fields.indexOf('-', 6)
    const [id, parent, device, root, mountPoint, flags] = fields
    const [type, source, options] = fields.slice(separator + 1)
    if (separator < 0 || !id || !parent || !device || !root || !mountPoint || !flags || !type) continue
    if (source === undefined || options === undefined) continue
    entries.push({
      id,
      parent,
      root: decode(root),
      mountPoint: decode(mountPoint),
      flags: flags.split(','),
      propagation: fields.slice(6, separator),
      device,
      type: decode(type),
      source: decode(source),
      options: decode(options),
    })
  }
  return entries
}

/** The mounts of this process's namespace. Reads only /proc, so it never waits for a file system. */
export function mountTable(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo'))
}

/** The mount that an open file or directory was reached through. */
export function mountOfDescriptor(descriptor: number): MountEntry | undefined {
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1')
  const id = /^mnt_id:\s*(\d+)$/m.exec(info)?.[1]
  return mountTable().find((entry) => entry.id === id)
}

/**
 * What is mounted at exactly this absolute path without symlinks, the uppermost last. Reads only /proc, so it never waits
 * for a file system.
 */
export function mountsOf(target: string): MountEntry[] {
  return mountTable().filter((entry) => entry.mountPoint === target)
}

/** Where a path lies: on which mount, and by which path in its file system, whatever bind mounts lead there. */
function locationOf(
  path: string,
  table = mountTable(),
): (MountEntry & { readonly inside: string }) | undefined {
  let found: MountEntry | undefined
  for (const entry of table) {
    // Of two mounts on one point the later one is seen.
    if (isWithin(path, entry.mountPoint) && entry.mountPoint.length >= (found?.mountPoint.length ?? 0))
      found = entry
  }
  if (!found) return undefined
  const below = found.mountPoint === '/' ? path.slice(1) : path.slice(found.mountPoint.length + 1)
  return { ...found, inside: below === '' ? found.root : `${found.root === '/' ? '' : found.root}/${below}` }
}

/**
 * Whether a path is the directory or below it, also by another way: by a bind mount of the directory, of something in it or
 * around it, and where something else is mounted in it, by where that is mounted, too.
 * @param path and `directory` absolute and without symlinks; neither needs to be there yet
 */
export function leadsInto(path: string, directory: string, table = mountTable()): boolean {
  if (isWithin(path, directory)) return true
  const here = locationOf(path, table)
  if (!here) return false
  const there = locationOf(directory, table)
  const shown = table.filter(({ mountPoint }) => isWithin(mountPoint, directory))
  return [...(there ? [there] : []), ...shown.map((entry) => ({ ...entry, inside: entry.root }))].some(
    ({ device, inside }) => device === here.device && isWithin(here.inside, inside),
  )
}
