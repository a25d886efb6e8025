import { readFileSync } from 'node:fs'

/** One line of /proc/self/mountinfo, proc(5). */
interface MountEntry {
  readonly mountPoint: string
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
    const [, , device, , mountPoint] = fields
    const [type, source, options] = fields.slice(separator + 1)
    if (separator < 0 || !device || !mountPoint || !type || source === undefined || options === undefined)
      continue
    entries.push({
      mountPoint: decode(mountPoint),
      device,
      type: decode(type),
      source: decode(source),
      options: decode(options),
    })
  }
  return entries
}

/**
 * What is mounted at exactly this absolute path without symlinks, the uppermost last. Reads only /proc, so it never waits
 * for a file system.
 */
export function mountsOf(target: string): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo')).filter((entry) => entry.mountPoint === target)
}
