import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { constants } from 'node:fs'
import { basename } from 'node:path'
import { SharedJob } from '../base/concurrency.ts'
import { isWithin } from '../base/paths.ts'

/** A process that has a file open or mapped for writing. */
export interface OpenWriter {
  readonly pid: number
  readonly name: string
  /** As the kernel names the file for that process. */
  readonly path: string
}

/** What identifies a file: inode number, and device as `Stat` of sys/stat.ts has it. */
interface Identity {
  readonly ino: bigint
  readonly dev: bigint
}

/**
 * Processes that have files open or mapped for writing, as far as they can be seen from here: not those of other PID namespaces,
 * and without root only one's own. Looks at every descriptor of the machine; processes in `except` are not looked at.
 */
async function* openWriters(except: ReadonlySet<number>): AsyncGenerator<Found> {
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || except.has(pid)) continue
    const links = [...(await writableDescriptors(pid)), ...(await writableMaps(pid))]
    if (links.length === 0) continue
    const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim()
    for (const link of links) {
      const path = await readlink(link).catch(() => '')
      if (path.startsWith('/')) yield { pid, name, path, link }
    }
  }
}

/** Of the writers below a directory the first of each file. */
export async function writersBelow(directory: string, except: ReadonlySet<number>): Promise<OpenWriter[]> {
  const found = new Map<string, OpenWriter>()
  for await (const { pid, name, path } of openWriters(except)) {
    if (isWithin(path, directory) && !found.has(path)) found.set(path, { pid, name, path })
  }
  return [...found.values()]
}

type Found = OpenWriter & { readonly link: string }

/** Who has files open for writing, as far as that can be seen from here. Those who ask at once share a look at the machine. */
export class OpenWriters {
  readonly #scan: SharedJob
  /** By the last part of the path. */
  #found = new Map<string, Found[]>()

  constructor(except: ReadonlySet<number>) {
    this.#scan = new SharedJob(async () => {
      const found = new Map<string, Found[]>()
      for await (const writer of openWriters(except)) {
        const name = basename(writer.path)
        const others = found.get(name)
        if (others) others.push(writer)
        else found.set(name, [writer])
      }
      this.#found = found
    })
  }

  /** Who has this file open for writing now, under this name. */
  async of(file: Identity, name: Buffer): Promise<OpenWriter | undefined> {
    await this.#scan.run()
    // Others may be on a file system that does not answer: only what can be this one is asked for its number.
    for (const { link, ...writer } of this.#found.get(name.toString()) ?? []) {
      const there = await stat(link, { bigint: true }).catch(() => undefined)
      if (there?.ino === file.ino && deviceOf(there.dev) === file.dev) return writer
    }
    return undefined
  }
}

/** A device as glibc packs it (gnu_dev_major), as major * 2^20 + minor. */
function deviceOf(packed: bigint): bigint {
  const major = ((packed >> 8n) & 0xfffn) | ((packed >> 32n) & ~0xfffn)
  const minor = (packed & 0xffn) | ((packed >> 12n) & ~0xffn)
  return (major << 20n) + minor
}

async function writableDescriptors(pid: number): Promise<string[]> {
  const links: string[] = []
  for (const fd of await readdir(`/proc/${pid}/fdinfo`).catch(() => [])) {
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '')
    const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? '0', 8)
    if ((flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0) links.push(`/proc/${pid}/fd/${fd}`)
  }
  return links
}

async function writableMaps(pid: number): Promise<string[]> {
  const maps = await readFile(`/proc/${pid}/maps`, 'latin1').catch(() => '')
  return maps.split('\n').flatMap((line) => {
    // Address, permissions (shared and writable), offset, device, inode, path (proc(5)).
    const address = /^(\S+) .w.s \S+ \S+ [1-9]\d* +\//.exec(line)?.[1]
    return address === undefined ? [] : [`/proc/${pid}/map_files/${address.replace(/\b0+(?=[0-9a-f])/g, '')}`]
  })
}
