import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { FLAG_APPEND, FLAG_IMMUTABLE, GUARDS } from '../../../src/base/inode-flags.ts'
import { flagsOf, setFlagsOf } from '../../../src/sys/index.ts'
import { posix } from '../posix/posix.ts'
import type { Random } from '../rig/random.ts'
import { CELL_BYTES, cells } from './cells.ts'
import { clockNs, VERSION_XATTR } from './questions.ts'
import type { Span } from './timeline.ts'
import { type State, TrueFile, type Truth } from './truth.ts'

const MOST_CELLS = 1500
/** More than a request of the kernel, and than a chunk. */
const LARGE_CELLS = 20_000
const DIRECTORIES = 3
const NAMES = 8
const KEPT = 'kept'

/** One directory has one of two names, so that it can be renamed. */
const namesOf = (directory: number): [string, string] => [`d${directory}`, `e${directory}`]

/** Changes of the volume behind the mount, drawn one after the other. The truth hears of each. */
export class PastWriter {
  readonly #root: string
  readonly #random: Random
  readonly #truth: Truth
  readonly #isRenamed = Array.from({ length: DIRECTORIES }, () => false)
  /** Names in each directory that are at work; what a daemon has removed under one is not changed any more. */
  readonly #names: string[][]
  #files = 0
  #made = 0
  readonly changes = new Map<string, number>()

  constructor(root: string, random: Random, truth: Truth) {
    this.#root = root
    this.#random = random
    this.#truth = truth
    this.#names = Array.from({ length: DIRECTORIES }, () =>
      Array.from({ length: NAMES }, () => this.#newName()),
    )
  }

  /** Before the mount. A file that nobody may remove keeps each directory there. */
  begin(): void {
    for (let directory = 0; directory < DIRECTORIES; directory += 1) {
      const path = namesOf(directory)[0]
      this.#timed(
        () => mkdirSync(this.#at(path)),
        (span) => this.#truth.place(path, true, span),
      )
      this.#make(`${path}/${KEPT}`, 1)
      this.#withFile(`${path}/${KEPT}`, (fd) => setFlagsOf(fd, FLAG_IMMUTABLE), constants.O_RDONLY)
      for (const name of this.#names[directory] ?? []) this.#make(`${path}/${name}`, this.#size())
    }
  }

  /** So that the directory of the test can be removed. */
  end(): void {
    const paths = [...this.#truth.entries].flatMap((entry) => [`d${entry}`, `e${entry}`])
    for (const path of paths) {
      if (!existsSync(this.#at(path))) continue
      this.#withFile(path, (fd) => setFlagsOf(fd, flagsOf(fd) & ~GUARDS), constants.O_RDONLY)
    }
  }

  /** One change at a place that is drawn. */
  change(): void {
    const directory = this.#random.below(DIRECTORIES)
    const names = this.#names[directory] ?? []
    const nth = this.#random.below(names.length)
    const path = this.#path(directory, names[nth] ?? '')
    const file = this.#truth.at(path)
    const isThere = existsSync(this.#at(path))
    if (file && !isThere) {
      // It has left the volume.
      names[nth] = this.#newName()
      this.#count('left to the store')
      return
    }
    if (!file) {
      this.#come(path)
      return
    }
    const [what, change] = this.#drawn(path, file)
    if (file.now.flags !== 0) this.#setFlags(path, file, 0)
    change()
    this.#count(what)
  }

  #drawn(path: string, file: TrueFile): [what: string, change: () => void] {
    const drawn = this.#random.below(100)
    if (drawn < 22) return ['write in place', () => this.#write(path, file)]
    if (drawn < 34) return ['append', () => this.#append(path, file)]
    if (drawn < 44) return ['truncate', () => this.#truncate(path, file)]
    if (drawn < 62) return ['replace', () => this.#make(path, this.#size())]
    if (drawn < 70) return ['remove', () => this.#remove(path)]
    if (drawn < 78) return ['rename', () => this.#rename(path, file)]
    if (drawn < 84) return ['chmod', () => this.#chmod(path, file)]
    if (drawn < 90) return ['xattr', () => this.#setXattr(path, file)]
    if (drawn < 94)
      return ['flags', () => this.#setFlags(path, file, this.#random.below(2) ? FLAG_APPEND : FLAG_IMMUTABLE)]
    if (drawn < 97) return ['directory', () => this.#comeAndGo(path)]
    return ['rename of a directory', () => this.#renameDirectory(this.#random.below(DIRECTORIES))]
  }

  // ---- changes of files

  #write(path: string, file: TrueFile): void {
    const own = file.now.cells.slice()
    const isWhole = this.#random.below(2) === 0
    const first = isWhole ? 0 : this.#random.below(own.length)
    const count = isWhole ? own.length : 1 + this.#random.below(own.length - first)
    const version = (file.version += 1)
    own.fill(version, first, first + count)
    const isPutBack = this.#random.below(3) === 0
    this.#inPlace(path, file, { cells: own }, (fd) => {
      const { atime, mtime } = fstatSync(fd)
      writeSync(fd, cells(file.id, version, first, count), 0, count * CELL_BYTES, first * CELL_BYTES)
      if (isPutBack) futimesSync(fd, atime, mtime)
    })
  }

  #append(path: string, file: TrueFile): void {
    const before = file.now.cells
    const count = 1 + this.#random.below(MOST_CELLS / 4)
    const version = (file.version += 1)
    const own = new Int32Array(before.length + count)
    own.set(before)
    own.fill(version, before.length)
    this.#inPlace(path, file, { cells: own }, (fd) =>
      writeSync(
        fd,
        cells(file.id, version, before.length, count),
        0,
        count * CELL_BYTES,
        before.length * CELL_BYTES,
      ),
    )
  }

  #truncate(path: string, file: TrueFile): void {
    const count = 1 + this.#random.below(file.now.cells.length)
    this.#inPlace(path, file, { cells: file.now.cells.slice(0, count) }, (fd) =>
      ftruncateSync(fd, count * CELL_BYTES),
    )
  }

  #chmod(path: string, file: TrueFile): void {
    const mode = 0o600 + this.#random.below(64)
    this.#timed(
      () => chmodSync(this.#at(path), mode),
      (span) => file.become({ mode }, span),
    )
  }

  #setXattr(path: string, file: TrueFile): void {
    const value = (file.version += 1)
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    this.#timed(
      () => posix.setxattr(this.#at(path), VERSION_XATTR, bytes),
      (span) => file.become({ value }, span),
    )
  }

  #setFlags(path: string, file: TrueFile, flags: number): void {
    this.#timed(
      () => this.#withFile(path, (fd) => setFlagsOf(fd, (flagsOf(fd) & ~GUARDS) | flags), constants.O_RDONLY),
      (span) => file.become({ flags }, span),
    )
  }

  /** What is written to a file that lost its last name before it was opened is nobody's. */
  #inPlace(path: string, file: TrueFile, state: Partial<State>, write: (fd: number) => void): void {
    const from = clockNs()
    const isNamed = this.#withFile(path, (fd) => {
      write(fd)
      return fstatSync(fd).nlink > 0
    })
    if (isNamed) file.become(state, { from, to: clockNs() })
  }

  // ---- changes of names

  #come(path: string): void {
    this.#make(path, this.#size())
    this.#count('make')
  }

  /** A new file comes under the name, whole. */
  #make(path: string, size: number): void {
    this.#files += 1
    const id = this.#files
    const temporary = this.#at('temporary')
    writeFileSync(temporary, cells(id, 1, 0, size), { mode: 0o644 })
    const value = Buffer.alloc(4)
    value.writeUInt32LE(1)
    posix.setxattr(temporary, VERSION_XATTR, value)
    this.#timed(
      () => renameSync(temporary, this.#at(path)),
      (span) => this.#truth.bind(path, new TrueFile(id, size, span), span),
    )
  }

  #remove(path: string): void {
    this.#timed(
      () => unlinkSync(this.#at(path)),
      (span) => this.#truth.bind(path, undefined, span),
    )
  }

  #rename(path: string, file: TrueFile): void {
    const directory = this.#random.below(DIRECTORIES)
    const names = this.#names[directory] ?? []
    const other = this.#path(directory, names[this.#random.below(names.length)] ?? '')
    const replaced = this.#truth.at(other)
    if (other === path || (replaced && (replaced.now.flags !== 0 || !existsSync(this.#at(other))))) return
    this.#timed(
      () => renameSync(this.#at(path), this.#at(other)),
      (span) => {
        this.#truth.bind(path, undefined, span)
        this.#truth.bind(other, file, span)
      },
    )
  }

  /** A directory comes where a file was, and goes again; then a new file. */
  #comeAndGo(path: string): void {
    this.#remove(path)
    this.#timed(
      () => mkdirSync(this.#at(path)),
      (span) => this.#truth.bind(path, 'directory', span),
    )
    this.#timed(
      () => rmdirSync(this.#at(path)),
      (span) => this.#truth.bind(path, undefined, span),
    )
    this.#make(path, this.#size())
  }

  #renameDirectory(directory: number): void {
    const [one, other] = namesOf(directory)
    const [from, to] = this.#isRenamed[directory] ? [other, one] : [one, other]
    this.#timed(
      () => renameSync(this.#at(from), this.#at(to)),
      (span) => {
        this.#isRenamed[directory] = !this.#isRenamed[directory]
        this.#truth.place(from, false, span)
        this.#truth.place(to, true, span)
      },
    )
  }

  // ---- small things

  /** Where a reader may look. */
  drawPath(random: Random): string {
    const directory = random.below(DIRECTORIES)
    const names = this.#names[directory] ?? []
    // Now and then at the other name of the directory.
    const isOther = random.below(20) === 0
    const name = namesOf(directory)[(this.#isRenamed[directory] ?? false) === isOther ? 0 : 1]
    return `${name}/${names[random.below(names.length)] ?? ''}`
  }

  /** All where a reader may look, as it is now. */
  get paths(): string[] {
    return this.#names.flatMap((names, directory) => names.map((name) => this.#path(directory, name)))
  }

  #path(directory: number, name: string): string {
    return `${namesOf(directory)[this.#isRenamed[directory] ? 1 : 0]}/${name}`
  }

  #newName(): string {
    this.#made += 1
    return `f${this.#made}`
  }

  #size(): number {
    if (this.#random.below(200) === 0) return LARGE_CELLS
    return 1 + this.#random.below(this.#random.below(3) === 0 ? MOST_CELLS : 100)
  }

  #at(path: string): string {
    return `${this.#root}/${path}`
  }

  #count(what: string): void {
    this.changes.set(what, (this.changes.get(what) ?? 0) + 1)
  }

  #timed(change: () => void, then: (span: Span) => void): void {
    const from = clockNs()
    change()
    then({ from, to: clockNs() })
  }

  #withFile<T>(path: string, body: (fd: number) => T, flags = constants.O_WRONLY): T {
    const fd = openSync(this.#at(path), flags)
    try {
      return body(fd)
    } finally {
      closeSync(fd)
    }
  }
}
