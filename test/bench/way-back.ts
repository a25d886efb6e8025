/**
 * What `ferryfs rebuild` and `ferryfs restore` of a large tree take, and whether they give it back:
 * `npm run bench:way-back [-- FILES…]`, with as many files (30,000 and 300,000 unless given), as root, in TMPDIR. The tree has one
 * directory of a tenth of the files, a chain of 1,000 levels whose path is 200 KiB long, and a file with names at either end of it. The
 * store is written by this program, and the trees that come back are compared with it by sums of all paths and contents.
 */
import { spawn } from 'node:child_process'
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { RecordedEntry } from '../../src/content/index.ts'
import { createLog } from '../../src/observe/log.ts'
import { EmbeddedStore } from '../../src/store/embedded/store.ts'
import { openAt, readDirectory } from '../../src/sys/index.ts'
import { named, StoreMaker } from '../support/made-store.ts'
import { Ferry } from '../support/mount/ferry.ts'

const COUNTS = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [30_000, 300_000]
const PER_DIRECTORY = 500
const LEVELS = 1000
const LEVEL_NAME = 'level-'.padEnd(200, 'x')
const AT_ONCE = 64
const POLL_MS = 50
// dirent.h
const DT_DIR = 4
const NAMESPACE = 'tree'

/** A sum of what is in a tree, in whatever order it is met: of the SHA-256 of each path and content. */
class TreeSum {
  files = 0
  directories = 0
  #sum = 0n

  file(above: string, name: string, content: Buffer): void {
    this.files += 1
    this.#add(`${above}/${name}\0${hash('sha256', content)}`)
  }

  /** Stands for the path of the directory in what is below it. */
  directory(above: string, name: string): string {
    this.directories += 1
    this.#add(`${above}/${name}/`)
    return hash('sha256', `${above}/${name}`)
  }

  #add(text: string): void {
    this.#sum = BigInt.asUintN(256, this.#sum + BigInt(`0x${hash('sha256', text)}`))
  }

  toString(): string {
    return `${this.files} files, ${this.directories} directories, ${this.#sum.toString(16)}`
  }
}

/** Writes the tree into a store, as a drained one lies there. */
class Tree {
  readonly sum = new TreeSum()
  readonly #maker: StoreMaker
  readonly #pending = new Set<Promise<void>>()
  #ino = 1n

  constructor(store: EmbeddedStore) {
    this.#maker = new StoreMaker(store)
  }

  async make(files: number): Promise<void> {
    const root: RecordedEntry[] = []
    const large = Math.floor(files / 10)
    root.push(await this.#directory('large', large))
    for (let left = files - large, nth = 0; left > 0; nth += 1, left -= PER_DIRECTORY)
      root.push(await this.#directory(`d${nth}`, Math.min(left, PER_DIRECTORY)))
    root.push(...(await this.#chain()))
    await this.#maker.root(root)
    await Promise.all(this.#pending)
    await this.#maker.lease()
  }

  async #directory(name: string, files: number): Promise<RecordedEntry> {
    const ino = (this.#ino += 1n)
    const above = this.sum.directory('', name)
    const entries: RecordedEntry[] = []
    for (let nth = 0; nth < files; nth += 1) entries.push(await this.#file(above, `file ${nth}`))
    const shards = 2 ** Math.ceil(Math.log2(Math.max(1, files / 500)))
    await this.#maker.directory({ ino }, entries, { shards })
    return named(name, ino)
  }

  async #file(above: string, name: string): Promise<RecordedEntry> {
    const ino = (this.#ino += 1n)
    const content = `the content of ${ino}\n`
    this.sum.file(above, name, Buffer.from(content))
    await this.#later(this.#maker.file({ ino }, `o${ino}`, content))
    return named(name, ino, `o${ino}`)
  }

  /** Directories in one another, and a file with a name in the root and one in the deepest. */
  async #chain(): Promise<RecordedEntry[]> {
    const file = (this.#ino += 1n)
    const key = `o${file}`
    const content = 'at both ends\n'
    await this.#maker.file({ ino: file }, key, content)
    const links = { links: 2 }
    this.sum.file('', 'a name above', Buffer.from(content))
    const first = this.#ino + 1n
    let above = ''
    for (let level = 1; level <= LEVELS; level += 1) {
      const ino = (this.#ino += 1n)
      above = this.sum.directory(above, LEVEL_NAME)
      const last = level === LEVELS
      if (last) this.sum.file(above, 'a name below', Buffer.from(content))
      const below = last ? named('a name below', file, key, links) : named(LEVEL_NAME, ino + 1n)
      await this.#maker.directory({ ino }, [below])
    }
    return [named(LEVEL_NAME, first), named('a name above', file, key, links)]
  }

  async #later(work: Promise<void>): Promise<void> {
    const task = work.finally(() => this.#pending.delete(task))
    this.#pending.add(task)
    if (this.#pending.size >= AT_ONCE) await Promise.race(this.#pending)
  }
}

/** The sum of a tree on a file system. */
function sumOf(root: string): string {
  const sum = new TreeSum()
  const visit = (directory: number, path: string): void => {
    for (const { name, type } of readDirectory(directory)) {
      const text = name.toString('latin1')
      const isDirectory = type === DT_DIR
      const flags = isDirectory ? constants.O_RDONLY | constants.O_DIRECTORY : constants.O_RDONLY
      const opened = openAt(directory, name, flags)
      if (isDirectory) visit(opened, sum.directory(path, text))
      else {
        const content = Buffer.alloc(fstatSync(opened).size)
        readSync(opened, content)
        sum.file(path, text, content)
      }
      closeSync(opened)
    }
  }
  const opened = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY)
  visit(opened, '')
  closeSync(opened)
  return sum.toString()
}

interface Figures {
  readonly seconds: number
  /** The most memory that it had, in MiB. */
  readonly resident: number
}

/** Runs a command of ferryfs to its end. @throws Error if that is not 0 */
async function run(ferry: Ferry, ...args: string[]): Promise<Figures> {
  const [command, line] = ferry.line(...args)
  const start = performance.now()
  const child = spawn(command, line, { env: ferry.environment, stdio: ['ignore', 'ignore', 'inherit'] })
  let resident = 0
  const timer = setInterval(() => {
    const peak = /VmHWM:\s+(\d+) kB/.exec(statusOf(child.pid))?.[1]
    resident = Math.max(resident, Number(peak ?? 0) / 1024)
  }, POLL_MS)
  const [status] = await once(child, 'exit')
  clearInterval(timer)
  if (status !== 0) throw new Error(`ferryfs ${args.join(' ')} ended with ${status}`)
  return { seconds: (performance.now() - start) / 1000, resident }
}

function statusOf(pid: number | undefined): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return ''
  }
}

function report(what: string, count: number, { seconds, resident }: Figures, same: boolean): void {
  const rate = Math.round(count / seconds)
  const line = `${seconds.toFixed(1)} s (${rate} files/s), ${Math.round(resident)} MiB at most`
  console.log(`${what} of ${count} files: ${line}; ${same ? 'the same tree' : 'ANOTHER TREE'}`)
  if (!same) process.exitCode = 1
}

for (const count of COUNTS) {
  const ferry = new Ferry()
  try {
    const at = join(ferry.root, 'store')
    const log = createLog({ level: 'error', name: 'bench', write: (line) => process.stderr.write(line) })
    mkdirSync(at)
    const store = await EmbeddedStore.open(join(at, NAMESPACE), { url: `embedded:${at}`, log })
    const tree = new Tree(store)
    await tree.make(count)
    await store.close()
    const wanted = tree.sum.toString()
    const place = ['--store', `embedded:${at}`, '--namespace', NAMESPACE]
    const back = join(ferry.root, 'back')
    const restored = await run(ferry, 'restore', ...place, back)
    report('restore --store', count, restored, sumOf(back) === wanted)
    const own = [...place, '--state-dir', ferry.stateDir]
    const rebuilt = await run(ferry, 'rebuild', ...own)
    await ferry.done('mount', ferry.source, ferry.target, ...own)
    report('rebuild', count, rebuilt, sumOf(ferry.target) === wanted)
    const through = join(ferry.root, 'through')
    const served = await run(ferry, 'restore', ferry.target, through)
    report('restore TARGET', count, served, sumOf(through) === wanted)
    await ferry.unmount()
  } finally {
    await ferry.clear()
  }
}
