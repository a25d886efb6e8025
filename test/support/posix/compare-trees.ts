import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './constants.ts'
import type { SnapshotEntry } from './snapshot.ts'

/** For each path the first path (in order) that is the same file: what tells which names are hard links. */
function linkGroups(entries: readonly SnapshotEntry[]): Map<string, string> {
  const first = new Map<bigint, string>()
  const groups = new Map<string, string>()
  for (const { path, ino } of entries) {
    const leader = first.get(ino) ?? path
    first.set(ino, leader)
    groups.set(path, leader)
  }
  return groups
}

function describeEntry(
  entry: SnapshotEntry,
  group: string | undefined,
  mtime: (entry: SnapshotEntry) => string,
): Record<string, string> {
  const type = entry.mode & S_IFMT
  return {
    mode: entry.mode.toString(8),
    owner: `${entry.uid}:${entry.gid}`,
    links: String(entry.nlink),
    'same file as': group ?? '',
    mtime: mtime(entry),
    xattrs: JSON.stringify(entry.xattrs),
    ...(type === S_IFREG && { size: String(entry.size), sha256: entry.sha256 ?? '' }),
    ...(type === S_IFLNK && { size: String(entry.size), target: entry.target ?? '' }),
    ...(type !== S_IFDIR && { device: String(entry.rdev) }),
  }
}

/**
 * What differs between two trees, one line each; empty if an application could not tell them apart. Inode numbers
 * themselves may differ, which names share one may not. `mtime` reduces a time to what is to be compared.
 */
export function compareTrees(
  expected: readonly SnapshotEntry[],
  actual: readonly SnapshotEntry[],
  mtime: (entry: SnapshotEntry) => string = ({ mtimeNs }) => String(mtimeNs),
): string[] {
  const differences: string[] = []
  const found = new Map(actual.map((entry) => [entry.path, entry]))
  const [expectedGroups, actualGroups] = [linkGroups(expected), linkGroups(actual)]
  for (const entry of expected) {
    const path = JSON.stringify(entry.path)
    const other = found.get(entry.path)
    found.delete(entry.path)
    if (other === undefined) {
      differences.push(`${path} is missing`)
      continue
    }
    const want = describeEntry(entry, expectedGroups.get(entry.path), mtime)
    const got = describeEntry(other, actualGroups.get(entry.path), mtime)
    for (const key of new Set([...Object.keys(want), ...Object.keys(got)])) {
      if (want[key] !== got[key]) differences.push(`${path}: ${key} is ${got[key]}, not ${want[key]}`)
    }
  }
  for (const path of found.keys()) differences.push(`${JSON.stringify(path)} should not be there`)
  return differences
}
