import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'

// f_type of statfs(2), linux/magic.h: what the kernel shows of itself, where no file can be kept.
const PSEUDO = new Map([
  [0x9fa0, 'proc'],
  [0x62656572, 'sysfs'],
  [0x27e0eb, 'cgroup'],
  [0x63677270, 'cgroup2'],
  [0x64626720, 'debugfs'],
  [0x74726163, 'tracefs'],
  [0x73636673, 'securityfs'],
  [0x1cd1, 'devpts'],
  [0xcafe4a11, 'bpf'],
  [0xde5e81e4, 'efivarfs'],
  [0x62656570, 'configfs'],
  [0x65735543, 'fusectl'],
  [0x19800202, 'mqueue'],
])

/**
 * @param name of what is to be kept there, for the message
 * @param path a real path; what is not there yet is judged by the nearest directory above it that is
 * @throws UsageError for a place that is no storage, such as /proc and /sys
 */
export function refuseNoStorage(name: string, path: string): void {
  const inside = ['/proc', '/sys'].find((directory) => isWithin(path, directory))
  const kind = inside === undefined ? pseudoFileSystem(path) : undefined
  if (inside === undefined && kind === undefined) return
  const where = inside === undefined ? `on a file system of type ${kind}` : `inside ${inside}`
  throw new UsageError(`${name} ${path} lies ${where}, where nothing can be kept; give a directory on a disk`)
}

function pseudoFileSystem(path: string): string | undefined {
  try {
    return PSEUDO.get(statfsSync(path).type)
  } catch {
    // Not there, or not to be asked: whoever uses it will say why.
    return path === '/' ? undefined : pseudoFileSystem(dirname(path))
  }
}
