import { readdir, readFile, readlink } from 'node:fs/promises'
import { isWithin } from '../base/paths.ts'
import { mountsOf, parseMountinfo } from '../fuse/kernel/mountinfo.ts'

/** A process that keeps a mount busy, and by what: `cwd`, `root`, `exe`, `fd 5`, `map`. */
export interface MountUser {
  readonly pid: number
  readonly name: string
  readonly uses: readonly string[]
}

/**
 * The processes that use something on what is mounted at a mount point, wherever their own mount namespace has it. Reads only
 * /proc; what may not be read (other users' processes, without root) is not found. `foreignOnly`: those in other mount namespaces.
 */
export async function mountUsers(
  target: string,
  except: ReadonlySet<number>,
  { foreignOnly = false }: { readonly foreignOnly?: boolean } = {},
): Promise<MountUser[]> {
  const users: MountUser[] = []
  const device = mountsOf(target).at(-1)?.device
  const own = await namespaceOf('self')
  // Mount points by namespace: many processes share one.
  const places = new Map<string, readonly string[]>([[own, [target]]])
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || except.has(pid)) continue
    const namespace = await namespaceOf(entry)
    if (foreignOnly && (namespace === own || namespace === '')) continue
    let targets = places.get(namespace)
    if (!targets) {
      targets = await placesOf(pid, device)
      places.set(namespace, targets)
    }
    const uses = targets.length === 0 ? [] : await usesOf(pid, targets)
    if (uses.length > 0) users.push({ pid, name: await nameOf(pid), uses })
  }
  return users
}

const namespaceOf = (process: string): Promise<string> => readlink(`/proc/${process}/ns/mnt`).catch(() => '')

/** Where the process has the file system of this device. */
async function placesOf(pid: number, device: string | undefined): Promise<string[]> {
  const table = await readFile(`/proc/${pid}/mountinfo`).catch(() => Buffer.alloc(0))
  return parseMountinfo(table)
    .filter((mount) => mount.device === device)
    .map(({ mountPoint }) => mountPoint)
}

async function usesOf(pid: number, targets: readonly string[]): Promise<string[]> {
  const uses: string[] = []
  for (const link of ['cwd', 'root', 'exe']) {
    if (await pointsInside(`/proc/${pid}/${link}`, targets)) uses.push(link)
  }
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    if (await pointsInside(`/proc/${pid}/fd/${fd}`, targets)) uses.push(`fd ${fd}`)
  }
  if (uses.length === 0 && (await mapsInside(pid, targets))) uses.push('map')
  return uses
}

const isInside = (path: string, targets: readonly string[]): boolean =>
  targets.some((target) => isWithin(path.replace(/ \(deleted\)$/, ''), target))

async function pointsInside(link: string, targets: readonly string[]): Promise<boolean> {
  try {
    return isInside(await readlink(link), targets)
  } catch {
    // The process or the descriptor is gone, or is nobody's business of ours.
    return false
  }
}

async function mapsInside(pid: number, targets: readonly string[]): Promise<boolean> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '')
  return maps.split('\n').some((line) => {
    // Address, permissions, offset, device and inode, then the path (proc(5)).
    const path = /^\S+ \S+ \S+ \S+ \S+ +(\/.*)$/.exec(line)?.[1]
    return path !== undefined && isInside(path, targets)
  })
}

async function nameOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim()
}
