import { readdir, readFile, readlink } from 'node:fs/promises'
import { isWithin } from '../base/paths.ts'

/** A process that keeps a mount busy, and by what: `cwd`, `root`, `exe`, `fd 5`, `map`. */
export interface MountUser {
  readonly pid: number
  readonly name: string
  readonly uses: readonly string[]
}

/**
 * The processes that use something under a mount point, as umount(8) means "busy". Reads only /proc; what may not be read
 * (other users' processes, without root) is not found.
 */
export async function mountUsers(target: string, except: ReadonlySet<number>): Promise<MountUser[]> {
  const users: MountUser[] = []
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || except.has(pid)) continue
    const uses = await usesOf(pid, target)
    if (uses.length > 0) users.push({ pid, name: await nameOf(pid), uses })
  }
  return users
}

async function usesOf(pid: number, target: string): Promise<string[]> {
  const uses: string[] = []
  for (const link of ['cwd', 'root', 'exe']) {
    if (await pointsInside(`/proc/${pid}/${link}`, target)) uses.push(link)
  }
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    if (await pointsInside(`/proc/${pid}/fd/${fd}`, target)) uses.push(`fd ${fd}`)
  }
  if (uses.length === 0 && (await mapsInside(pid, target))) uses.push('map')
  return uses
}

async function pointsInside(link: string, target: string): Promise<boolean> {
  try {
    return isWithin((await readlink(link)).replace(/ \(deleted\)$/, ''), target)
  } catch {
    // The process or the descriptor is gone, or is nobody's business of ours.
    return false
  }
}

async function mapsInside(pid: number, target: string): Promise<boolean> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '')
  return maps.split('\n').some((line) => {
    // Address, permissions, offset, device and inode, then the path (proc(5)).
    const path = /^\S+ \S+ \S+ \S+ \S+ +(\/.*)$/.exec(line)?.[1]
    return path !== undefined && isWithin(path.replace(/ \(deleted\)$/, ''), target)
  })
}

async function nameOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim()
}
