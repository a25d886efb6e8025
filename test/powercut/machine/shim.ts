import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import koffi from 'koffi'

const SOURCES = fileURLToPath(new URL('../shim', import.meta.url))

/** The compiled shim, made where it is not there yet. @throws Error of the compiler, or that there is none */
export function compileShim(): string {
  const sources = readdirSync(SOURCES).map((name) => join(SOURCES, name))
  const hash = createHash('sha256')
  for (const path of sources) hash.update(readFileSync(path))
  const directory = join(tmpdir(), `ferryfs-powercut-${process.getuid?.() ?? 0}`)
  const library = join(directory, `shim-${hash.digest('hex').slice(0, 16)}.so`)
  if (existsSync(library)) return library
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const unfinished = `${library}.${process.pid}`
  execFileSync('gcc', [
    '-O2',
    '-shared',
    '-fPIC',
    '-o',
    unfinished,
    ...sources.filter((path) => path.endsWith('.c')),
    '-ldl',
  ])
  renameSync(unfinished, library)
  return library
}

/** The shim that is preloaded into this very process. */
export class Shim {
  readonly #record
  readonly #pause
  readonly #mark
  readonly #boot
  readonly #show
  readonly #showFile
  readonly #save
  readonly #kill
  readonly #recording

  constructor() {
    const library = koffi.load(process.env.LD_PRELOAD ?? '')
    this.#record = library.func('int powercut_record(const char *, const char *, int)')
    this.#pause = library.func('void powercut_pause()')
    this.#mark = library.func('void powercut_mark(const void *, uint64_t)')
    this.#boot = library.func('void powercut_boot(const char *)')
    this.#show = library.func('int powercut_show(const char *, uint64_t)')
    this.#showFile = library.func('int powercut_show_file(const void *, uint64_t, int64_t, int64_t)')
    this.#kill = library.func(
      'void powercut_kill(uint64_t, const char *, const char *, const char *, const char *)',
    )
    this.#recording = library.func('int powercut_recording()')
    this.#save = library.func('int powercut_save(const char *)')
  }

  /** Records everything that happens on the file system of `root` in the file `log`, which is not on it. */
  record(root: string, log: string): void {
    if (this.#record(root, log, 0) !== 0) throw new Error(`${log} cannot be written`)
  }

  /**
   * Behind this event of what is being recorded the process counts as killed: nothing is recorded any more. What the page
   * cache has of two files that are mapped is copied then, as no call tells of it.
   */
  killAt(event: number, mapped: ReadonlyArray<readonly [path: string, copy: string]>): void {
    const [[path = '', copy = ''] = [], [path2 = '', copy2 = ''] = []] = mapped
    this.#kill(event, path, copy, path2, copy2)
  }

  /** False once it was paused, or the process counts as killed. */
  get isRecording(): boolean {
    return this.#recording() !== 0
  }

  pause(): void {
    this.#pause()
  }

  mark(text: string): void {
    const bytes = Buffer.from(text)
    this.#mark(bytes, bytes.length)
  }

  /** From now on the machine's boot id is what the file says; none: its own again. */
  boot(path: string): void {
    this.#boot(path)
  }

  /** Forgets what was shown; room for so many files on the file system of `root`. */
  show(root: string, files: number): void {
    if (this.#show(root, files) !== 0) throw new Error('no memory for the table of files')
  }

  /** The file is shown with the inode number and times (nanoseconds) that it had, until it is changed. */
  showFile(path: Buffer, ino: number, ctimeNs: bigint, btimeNs: bigint): void {
    const terminated = Buffer.concat([path, Buffer.alloc(1)])
    if (this.#showFile(terminated, ino, ctimeNs, btimeNs) !== 0) throw new Error(`${path} is not there`)
  }

  /** Writes down what is shown, for processes that are started with FERRYFS_POWERCUT_SHOWN. */
  saveShown(path: string): void {
    if (this.#save(path) !== 0) throw new Error(`${path} cannot be written`)
  }
}
