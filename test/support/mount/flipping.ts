import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { OWNER_XATTR } from '../../../src/base/own-names.ts'
import { type Flip, flip, flipsIn } from '../flips.ts'
import { posix } from '../posix/posix.ts'
import type { Random } from '../rig/random.ts'
import type { Ferry } from './ferry.ts'

const MARK = Buffer.from(OWNER_XATTR)

/** What an application sees: by path, what stat(2) says and the sum of the content; an error stands for what has one. */
export type Seen = ReadonlyMap<string, string>

const SHOW = `cd "$1" || exit 1
find . -mindepth 1 -printf '%P|%y %m %U:%G %n %s %T@ %l\\n' 2>&1
find . -mindepth 1 -type f -print0 2>/dev/null | while IFS= read -r -d '' file; do
  echo "$file: $(LC_ALL=C sha256sum < "$file" 2>&1)"
done`

/** Everything in the mount, by a program of its own. */
export async function seenIn(ferry: Ferry): Promise<Seen> {
  const seen = new Map<string, string>()
  for (const line of (await ferry.run('bash', '-c', SHOW, 'bash', ferry.target)).split('\n')) {
    const [, content, sum] = /^\.\/(.*?): (.*)$/.exec(line) ?? []
    const [, path, stat] = /^([^|]*)\|(.*)$/.exec(line) ?? []
    if (content !== undefined) seen.set(`content of ${content}`, isError(sum) ? 'error' : (sum ?? ''))
    else if (path !== undefined) seen.set(path, stat ?? '')
    else if (line !== '') seen.set(line, 'error')
  }
  return seen
}

const isError = (sum: string | undefined): boolean => !/^[0-9a-f]{64} /.test(sum ?? '')

/** What is not as it was, and what of that is something else, not an error or absent with one. */
export function compareSeen(wanted: Seen, found: Seen): { differing: string[]; other: string[] } {
  const differing = [...new Set([...wanted.keys(), ...found.keys()])].filter(
    (path) => wanted.get(path) !== found.get(path),
  )
  const hasErrors = [...found.values()].includes('error')
  const other = differing.filter((path) => {
    const now = found.get(path)
    return now === undefined ? !hasErrors : now !== 'error' && wanted.has(path)
  })
  return { differing, other }
}

/** All that a daemon leaves on its machine, kept as it was, to be given back with one bit of it flipped. */
export class LeftBehind {
  readonly #directories: readonly string[]
  readonly #kept: string
  readonly #source: string
  /** SOURCE says which mount was the last. */
  readonly #mark: Buffer | undefined

  constructor(ferry: Ferry, store: string) {
    this.#source = ferry.source
    this.#mark = markOf(ferry.source)
    this.#directories = [ferry.stateDir, store, ferry.stateRoot, join(ferry.root, 'run')]
    this.#kept = join(ferry.root, 'kept')
    mkdirSync(this.#kept)
    for (const [at, directory] of this.#directories.entries())
      if (existsSync(directory)) copy(directory, join(this.#kept, `${at}`))
  }

  /** One bit for each 4 KiB of each file; `most` of them, drawn by file, unless that is infinite. */
  flips(random: Random, most: number): Flip[] {
    const all = flipsIn(this.#kept, random, most).filter(({ file }) => !file.includes('daemon.log'))
    while (all.length > most) all.splice(random.below(all.length), 1)
    return all
  }

  /** As it was left, but for one bit. */
  giveBack(one: Flip): void {
    for (const [at, directory] of this.#directories.entries()) {
      const kept = join(this.#kept, `${at}`)
      empty(directory)
      if (existsSync(kept)) copy(kept, directory)
    }
    if (this.#mark) posix.setxattr(this.#source, MARK, this.#mark)
    else if (markOf(this.#source)) posix.removexattr(this.#source, MARK)
    this.mend(one)
  }

  /** The same bit once more. */
  mend({ file, bit }: Flip): void {
    const [at, ...rest] = file.split('/')
    flip(this.#directories[Number(at)] ?? '', { file: rest.join('/'), bit })
  }

  /** As a person knows it. */
  nameOf({ file, bit }: Flip): string {
    const [at, ...rest] = file.split('/')
    return `bit ${bit} of ${['state', 'store', 'machine', 'run'][Number(at)]}/${rest.join('/')}`
  }
}

function markOf(source: string): Buffer | undefined {
  return posix.listxattr(source).some((name) => name.equals(MARK)) ? posix.getxattr(source, MARK) : undefined
}

function copy(from: string, to: string): void {
  execFileSync('cp', ['-a', '--no-target-directory', from, to])
}

/** The directory itself stays: it may be a mount point. */
function empty(directory: string): void {
  if (existsSync(directory)) execFileSync('find', [directory, '-mindepth', '1', '-delete'])
}

/** Fills a file system until nothing goes on it; what takes the room away again. */
export function fillUp(directory: string): () => void {
  const path = join(directory, 'ballast')
  for (const size of [1 << 16, 4096]) {
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(size), { flag: 'a' })
      } catch {
        break
      }
    }
  }
  return () => rmSync(path)
}

/** Rows of a query on the catalog of a daemon that runs. */
export function askCatalog(stateDir: string, sql: string): Record<string, unknown> {
  const database = new DatabaseSync(join(stateDir, 'catalog.db'), { readOnly: true })
  try {
    return database.prepare(sql).get() ?? {}
  } finally {
    database.close()
  }
}
