import { closeSync, fstatSync, open } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { FsError, UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import { shellWord } from '../config/mount-command.ts'
import { type MountEntry, mountOfDescriptor, mountTable } from '../fuse/kernel/mountinfo.ts'
import { DIRECTORY_TO_READ, type Holder, leavePresence, othersPresent, presentAt } from '../sys/presence.ts'
import { type Registration, registrations } from './registry.ts'

const openAsync = promisify(open)

// Bytes behind every end, which no program locks for its own purposes: "ferryf" as a number.
const SERVED = 0x666572727966
const HOLDS_SERVED = SERVED + 1

/**
 * Keeps others from serving the same SOURCE, something in it or something around it, for as long as this process lives. What is compared are the directories themselves, so neither symlinks nor bind mounts nor
 * another mount namespace get around it: on the root lies a presence "served", on each directory above it "holds what is
 * served". Everybody first leaves his own and then looks for others', so of two that start at once at least one sees the other.
 */
export class SourceClaim {
  /** The mount that SOURCE was reached through; undefined where it is not there. */
  mount: MountEntry | undefined
  readonly #source: string
  readonly #runDir: string
  readonly #descriptors: number[] = []

  private constructor(source: string, runDir: string) {
    this.#source = source
    this.#runDir = runDir
  }

  /**
   * Never keeps the calling thread waiting for the volume.
   * @param source a real path; one that is not there is claimed by nobody
   * @throws UsageError in one line that says who serves what, and how to end it
   */
  static async take(source: string, runDir: string): Promise<SourceClaim> {
    const claim = new SourceClaim(source, runDir)
    try {
      await claim.#claim()
      return claim
    } catch (error) {
      claim.release()
      throw error
    }
  }

  release(): void {
    for (const descriptor of this.#descriptors.splice(0)) closeSync(descriptor)
  }

  async #claim(): Promise<void> {
    const root = await this.#open(this.#source)
    if (root === undefined) return
    this.mount = mountOfDescriptor(root)
    const above = await this.#above()
    leave(root, SERVED)
    for (const { descriptor } of above) leave(descriptor, HOLDS_SERVED)
    const [served, inside] = [ferryfsAt(root, SERVED), ferryfsAt(root, HOLDS_SERVED)]
    if (served) throw this.#refusal(`SOURCE ${this.#source} is served already`, served)
    if (inside)
      throw this.#refusal(`SOURCE ${this.#source} is around a directory that is served already`, inside)
    for (const { descriptor, path } of above) {
      const holders = ferryfsAt(descriptor, SERVED)
      if (holders)
        throw this.#refusal(`SOURCE ${this.#source} lies inside ${path}, which is served already`, holders)
    }
  }

  /** The directories above the root, by its path and, where it is bind mounted, by where else its file system is mounted. */
  async #above(): Promise<Array<{ readonly descriptor: number; readonly path: string }>> {
    const above: Array<{ readonly descriptor: number; readonly path: string }> = []
    for (let path = this.#source; dirname(path) !== path; ) {
      path = dirname(path)
      const descriptor = await this.#open(path)
      if (descriptor !== undefined) above.push({ descriptor, path })
    }
    const { mount } = this
    const inside = mount && join(mount.root, relative(mount.mountPoint, this.#source))
    for (const { id, device, root: top, mountPoint } of mountTable()) {
      if (!mount || !inside || id === mount.id || device !== mount.device || !isWithin(inside, top)) continue
      for (let at = inside; at !== top; ) {
        at = dirname(at)
        const path = join(mountPoint, relative(top, at))
        const descriptor = await this.#open(path)
        // Something else may be mounted over it.
        if (descriptor !== undefined && mountOfDescriptor(descriptor)?.id === id)
          above.push({ descriptor, path })
      }
    }
    return above
  }

  /** Undefined where it is not there, or this user may not read it. */
  async #open(path: string): Promise<number | undefined> {
    try {
      const descriptor = await openAsync(path, DIRECTORY_TO_READ)
      this.#descriptors.push(descriptor)
      return descriptor
    } catch {
      return undefined
    }
  }

  #refusal(what: string, holders: readonly Holder[]): UsageError {
    const known = registrations(this.#runDir).find(({ supervisorPid }) =>
      holders.some(({ pid }) => pid === supervisorPid),
    )
    return new UsageError(`${what}${whoServes(known, holders)}`)
  }
}

function whoServes(known: Registration | undefined, [holder]: readonly Holder[]): string {
  if (known) {
    const target = shellWord(known.target)
    return ` at ${known.target}; "ferryfs status ${target}" shows it, "ferryfs unmount ${target}" ends it`
  }
  return holder
    ? ` by process ${holder.pid} of user ${holder.uid}; end that first`
    : ' by a process that cannot be seen from here (in another container?); end that first'
}

/** A file system without locks: what is left is what SOURCE's mark and the machine's records say. */
function leave(descriptor: number, at: number): void {
  try {
    leavePresence(descriptor, at)
  } catch (error) {
    if (!(error instanceof FsError)) throw error
  }
}

/**
 * Who else is there, if it can be ferryfs: anybody who may read a directory can leave a presence on it, and is not to keep
 * others from being served. One who may also change what is in it has better ways to do harm.
 */
function ferryfsAt(descriptor: number, at: number): readonly Holder[] | undefined {
  try {
    if (!othersPresent(descriptor, at)) return undefined
  } catch (error) {
    if (error instanceof FsError) return undefined
    throw error
  }
  const holders = presentAt(descriptor, at)
  const able = holders.filter(({ uid }) => mayChange(descriptor, uid))
  return holders.length > 0 && able.length === 0 ? undefined : able
}

function mayChange(descriptor: number, uid: number): boolean {
  const stat = fstatSync(descriptor)
  const sticky = (stat.mode & 0o1000) !== 0
  return (
    uid === 0 || uid === process.geteuid?.() || uid === stat.uid || ((stat.mode & 0o022) !== 0 && !sticky)
  )
}
