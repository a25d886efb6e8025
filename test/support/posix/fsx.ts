import { Agent } from './agent.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_APPEND,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from './constants.ts'
import { featuresOfPlainDirectory } from './features.ts'
import { data, type FsxOperation, operationArbitrary, PAGE } from './fsx-script.ts'
import { type ExerciserHooks, runScript, StepFailure } from './scripts.ts'

export interface FsxOptions {
  readonly directory: string
  readonly seed: number
  readonly operations: number
  /** Files worked on in turn; default 2. */
  readonly files?: number
  /** Largest size of a file in bytes; default 400,000. */
  readonly maxSize?: number
  /** Most bytes of one operation; default 70,000. */
  readonly maxLength?: number
  /** Operations that are left out; by default those that a plain directory of this machine does not offer either. */
  readonly without?: readonly FsxOperation['kind'][]
  readonly hooks?: ExerciserHooks
  /** Ends the run by killing its processes: the way out of a file system that hangs. */
  readonly signal?: AbortSignal
  /** A script that an earlier failure printed. */
  readonly replay?: readonly FsxOperation[]
  /** Time to shrink a failing script; default 20,000 ms, or 0 where there are hooks. */
  readonly shrinkMs?: number
}

export interface FsxReport {
  readonly seed: number
  /** How often each kind of operation ran. */
  readonly counts: Readonly<Record<string, number>>
  readonly bytesWritten: number
  readonly bytesCompared: number
}

/** In place of a descriptor that a hook let go. */
const RELEASED = -1

/** A file and what it must hold. */
interface ShadowFile {
  /** Empty once the last name is gone; the descriptor still holds the file then. */
  names: string[]
  fd: number
  content: Buffer
}

/** One run of a script in one directory. */
class FsxRun {
  readonly #directory: string
  readonly #maxSize: number
  readonly #maxLength: number
  /** The process that works, and another one that looks. */
  readonly #worker: Agent
  readonly #witness: Agent
  readonly #files: ShadowFile[] = []
  /** What was done to each file where, for the message of a failure. */
  readonly #log: { file: ShadowFile; step: number; start: number; end: number; text: string }[] = []
  #step = 0
  #made = 0
  readonly counts: Record<string, number> = {}
  bytesWritten = 0
  bytesCompared = 0

  constructor(directory: string, options: FsxOptions, worker: Agent, witness: Agent) {
    this.#directory = directory
    this.#maxSize = options.maxSize ?? 400_000
    this.#maxLength = options.maxLength ?? 70_000
    this.#worker = worker
    this.#witness = witness
  }

  async run(
    script: readonly FsxOperation[],
    fileCount: number,
    hooks: ExerciserHooks | undefined,
  ): Promise<void> {
    await this.#worker.call.mkdir(`${this.#directory}/sub`)
    for (let n = 0; n < fileCount; n++) this.#files.push(await this.#newFile())
    for (const [index, operation] of script.entries()) {
      this.#step = index
      await hooks?.between?.({ index, total: script.length, release: () => this.#release() })
      await this.#reopenReleased()
      try {
        await this.#apply(operation)
      } catch (error) {
        if (error instanceof StepFailure) throw error
        const reason = error instanceof Error ? error.message : String(error)
        throw new StepFailure(index, `${operation.kind} failed: ${reason}`, { cause: error })
      }
    }
    await hooks?.finish?.()
    for (const file of this.#files) await this.#compareWhole(file)
    for (const file of this.#files) await this.#worker.call.close(file.fd)
    for (const file of this.#files) await this.#compareByName(file)
  }

  async #release(): Promise<void> {
    for (const file of this.#files) {
      if (file.fd !== RELEASED) await this.#worker.call.close(file.fd)
      file.fd = RELEASED
    }
  }

  async #reopenReleased(): Promise<void> {
    for (const file of this.#files) {
      if (file.fd !== RELEASED) continue
      const [name] = file.names
      if (name === undefined) Object.assign(file, await this.#newFile())
      else file.fd = await this.#worker.call.open(name, O_RDWR)
    }
  }

  async #apply(operation: FsxOperation): Promise<void> {
    const file = this.#files[operation.file % this.#files.length]
    if (file === undefined) throw new Error('there is no file to work on')
    this.counts[operation.kind] = (this.counts[operation.kind] ?? 0) + 1
    await this[operation.kind](file, operation)
    await this.#compareSize(file)
    const start = Math.min((operation.variant * 7919) % (file.content.length + 1), file.content.length)
    await this.#compareRange(
      file,
      start,
      (operation.length % this.#maxLength) + 1,
      operation.variant % 3 === 0,
    )
  }

  /** An offset up to `limit`, rounded as the operation says. */
  #offset(operation: FsxOperation, limit: number): number {
    const offset = operation.offset % (limit + 1)
    return offset - (offset % operation.align)
  }

  /** A length of at least one byte that keeps the file under its largest size. */
  #length(operation: FsxOperation, offset: number): number {
    return Math.max(1, Math.min((operation.length % this.#maxLength) + 1, this.#maxSize - offset))
  }

  /** What the file must hold from `offset` on, zeros before it where it ended earlier. */
  #place(file: ShadowFile, offset: number, bytes: Buffer): void {
    if (offset + bytes.length > file.content.length) this.#resize(file, offset + bytes.length)
    bytes.copy(file.content, offset)
  }

  #resize(file: ShadowFile, size: number): void {
    const content = Buffer.alloc(size)
    file.content.copy(content, 0, 0, Math.min(size, file.content.length))
    file.content = content
  }

  #note(file: ShadowFile, start: number, end: number, text: string): void {
    this.#log.push({ file, step: this.#step, start, end, text })
  }

  #freshName(operation?: FsxOperation): string {
    this.#made += 1
    return `${this.#directory}/${operation !== undefined && operation.variant % 2 === 1 ? 'sub/' : ''}${this.#made}`
  }

  async #newFile(): Promise<ShadowFile> {
    const name = this.#freshName()
    const fd = await this.#worker.call.open(name, O_CREAT | O_EXCL | O_RDWR, 0o644)
    return { names: [name], fd, content: Buffer.alloc(0) }
  }

  async read(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = this.#offset(operation, file.content.length)
    await this.#compareRange(file, offset, this.#length(operation, offset), operation.variant % 2 === 0)
  }

  async write(file: ShadowFile, operation: FsxOperation): Promise<void> {
    // Three times out of four inside or at the end of what is there.
    const limit =
      operation.variant % 4 === 0 ? this.#maxSize - 1 : Math.min(file.content.length, this.#maxSize - 1)
    const offset = this.#offset(operation, limit)
    const bytes = data(this.#length(operation, offset), operation.variant)
    await this.#writeFully(file, file.fd, bytes, offset)
    this.#note(
      file,
      Math.min(offset, file.content.length),
      offset + bytes.length,
      `write ${bytes.length} at ${offset}`,
    )
    this.#place(file, offset, bytes)
  }

  async #writeFully(file: ShadowFile, fd: number, bytes: Buffer, offset: number): Promise<void> {
    const written = await this.#worker.call.write(fd, bytes, offset)
    if (written !== bytes.length) this.#fail(file, `write of ${bytes.length} bytes wrote ${written}`)
    this.bytesWritten += written
  }

  async append(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = file.content.length
    const length = Math.min((operation.length % this.#maxLength) + 1, this.#maxSize - offset)
    const [name] = file.names
    if (length <= 0 || name === undefined) return
    const bytes = data(length, operation.variant)
    const fd = await this.#worker.call.open(name, O_WRONLY | O_APPEND)
    try {
      const written = await this.#worker.call.write(fd, bytes)
      if (written !== length) this.#fail(file, `append of ${length} bytes wrote ${written}`)
    } finally {
      await this.#worker.call.close(fd)
    }
    this.bytesWritten += length
    this.#note(file, offset, offset + length, `append ${length} at ${offset}`)
    this.#place(file, offset, bytes)
  }

  async truncate(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const limit = operation.variant % 3 === 0 ? this.#maxSize : file.content.length
    const size = this.#offset(operation, limit)
    const [name] = file.names
    if (name !== undefined && operation.variant % 2 === 0) await this.#worker.call.truncate(name, size)
    else await this.#worker.call.ftruncate(file.fd, size)
    this.#note(file, Math.min(size, file.content.length), Number.POSITIVE_INFINITY, `truncate to ${size}`)
    this.#resize(file, size)
  }

  async mapRead(file: ShadowFile, operation: FsxOperation): Promise<void> {
    if (file.content.length === 0) return
    const offset = this.#offset(operation, file.content.length - 1)
    const length = Math.min(this.#length(operation, offset), file.content.length - offset)
    const got = await this.#mapped(file, offset, length, (id, at) =>
      this.#worker.call.mapRead(id, at, length),
    )
    this.#expectSame(file, got, offset, 'through memory')
  }

  async mapWrite(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = this.#offset(operation, Math.min(file.content.length, this.#maxSize - 1))
    const bytes = data(this.#length(operation, offset), operation.variant)
    // Memory behind the end of a file cannot be written; the file grows first.
    if (offset + bytes.length > file.content.length) {
      await this.#worker.call.ftruncate(file.fd, offset + bytes.length)
      this.#resize(file, offset + bytes.length)
    }
    await this.#mapped(file, offset, bytes.length, async (id, at) => {
      await this.#worker.call.mapWrite(id, at, bytes)
      if (operation.variant % 2 === 0) await this.#worker.call.msync(id)
    })
    this.bytesWritten += bytes.length
    this.#note(file, offset, offset + bytes.length, `write ${bytes.length} at ${offset} through memory`)
    this.#place(file, offset, bytes)
  }

  /** Maps the pages around a range; `use` gets the mapping and where the range starts in it. */
  async #mapped<T>(
    file: ShadowFile,
    offset: number,
    length: number,
    use: (id: number, at: number) => Promise<T>,
  ): Promise<T> {
    const start = offset - (offset % PAGE)
    const id = await this.#worker.call.map(file.fd, offset - start + length, { offset: start })
    try {
      return await use(id, offset - start)
    } finally {
      await this.#worker.call.unmap(id)
    }
  }

  async punch(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = this.#offset(operation, file.content.length)
    const length = this.#length(operation, offset)
    await this.#worker.call.fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
    this.#note(file, offset, offset + length, `punch ${length} at ${offset}`)
    file.content.fill(0, offset, Math.min(offset + length, file.content.length))
  }

  async zero(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = this.#offset(operation, file.content.length)
    const length = this.#length(operation, offset)
    const keepSize = operation.variant % 2 === 0
    const flags = keepSize ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE
    await this.#worker.call.fallocate(file.fd, flags, offset, length)
    this.#note(file, offset, offset + length, `zero ${length} at ${offset}${keepSize ? ', size kept' : ''}`)
    if (!keepSize && offset + length > file.content.length) this.#resize(file, offset + length)
    file.content.fill(
      0,
      Math.min(offset, file.content.length),
      Math.min(offset + length, file.content.length),
    )
  }

  async allocate(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const offset = this.#offset(operation, file.content.length)
    const length = this.#length(operation, offset)
    const keepSize = operation.variant % 2 === 0
    await this.#worker.call.fallocate(file.fd, keepSize ? FALLOC_FL_KEEP_SIZE : 0, offset, length)
    this.#note(
      file,
      offset,
      offset + length,
      `allocate ${length} at ${offset}${keepSize ? ', size kept' : ''}`,
    )
    if (!keepSize && offset + length > file.content.length) this.#resize(file, offset + length)
  }

  async copy(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const to =
      this.#files[(operation.file + (operation.variant % this.#files.length)) % this.#files.length] ?? file
    const from = this.#offset(operation, file.content.length)
    const at = operation.variant % (Math.min(to.content.length, this.#maxSize - 1) + 1)
    const length = Math.min(this.#length(operation, at), file.content.length - from)
    // Within one file the ranges must not overlap: EINVAL by the manual, nothing to learn here.
    if (length <= 0 || (to === file && Math.abs(from - at) < length)) return
    const bytes = Buffer.from(file.content.subarray(from, from + length))
    for (let copied = 0; copied < length; ) {
      const some = await this.#worker.call.copyFileRange(
        file.fd,
        from + copied,
        to.fd,
        at + copied,
        length - copied,
      )
      if (some <= 0) this.#fail(file, `copy_file_range stopped after ${copied} of ${length} bytes`)
      copied += some
    }
    this.bytesWritten += length
    this.#note(
      to,
      at,
      at + length,
      `copy ${length} to ${at}${to === file ? '' : ' from the other file'} (${from})`,
    )
    this.#place(to, at, bytes)
    await this.#compareSize(to)
    await this.#compareRange(to, at, length, operation.variant % 2 === 0)
  }

  async reopen(file: ShadowFile, operation: FsxOperation): Promise<void> {
    await this.#worker.call.close(file.fd)
    const name = file.names[operation.variant % Math.max(1, file.names.length)]
    if (name === undefined) {
      // The last descriptor of an unlinked file is gone and the file with it; a new one takes its place.
      Object.assign(file, await this.#newFile())
    } else {
      file.fd = await this.#worker.call.open(name, O_RDWR)
      this.#note(file, 0, 0, `reopened as ${name}`)
    }
  }

  async rename(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const index = operation.variant % Math.max(1, file.names.length)
    const name = file.names[index]
    if (name === undefined) return
    const fresh = this.#freshName(operation)
    await this.#worker.call.rename(name, fresh)
    file.names[index] = fresh
  }

  /** Renames a name of this file over one of the other file's. */
  async replace(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const other = this.#files[(operation.file + 1) % this.#files.length]
    const [name] = file.names
    const [victim] = other?.names ?? []
    if (other === undefined || other === file || name === undefined || victim === undefined) return
    await this.#worker.call.rename(name, victim)
    file.names = [victim, ...file.names.slice(1)]
    other.names = other.names.slice(1)
    await this.#compareSize(other)
  }

  async link(file: ShadowFile, operation: FsxOperation): Promise<void> {
    const [name] = file.names
    if (name === undefined || file.names.length > 4) return
    const fresh = this.#freshName(operation)
    await this.#worker.call.link(name, fresh)
    file.names.push(fresh)
  }

  async unlink(file: ShadowFile): Promise<void> {
    const name = file.names.shift()
    if (name !== undefined) await this.#worker.call.unlink(name)
  }

  async fsync(file: ShadowFile, operation: FsxOperation): Promise<void> {
    if (operation.variant % 2 === 0) await this.#worker.call.fsync(file.fd)
    else await this.#worker.call.fdatasync(file.fd)
  }

  /** Makes the kernel forget the pages, so that the whole file is read from the file system. */
  async drop(file: ShadowFile): Promise<void> {
    await this.#worker.call.fsync(file.fd)
    await this.#worker.call.dropCache(file.fd)
    await this.#compareWhole(file)
  }

  async #compareSize(file: ShadowFile): Promise<void> {
    const { size, nlink } = await this.#worker.call.fstat(file.fd)
    if (size !== file.content.length)
      this.#fail(file, `the size is ${size}, not ${file.content.length}`, size)
    if (nlink !== file.names.length) this.#fail(file, `the link count is ${nlink}, not ${file.names.length}`)
  }

  async #compareRange(file: ShadowFile, offset: number, length: number, byWitness: boolean): Promise<void> {
    const [name] = file.names
    if (!byWitness || name === undefined) {
      const got = await this.#worker.call.read(file.fd, length, offset)
      return this.#expectSame(file, got, offset, 'by its descriptor', length)
    }
    const fd = await this.#witness.call.open(name, O_RDONLY)
    const got = await this.#witness.call.read(fd, length, offset)
    await this.#witness.call.close(fd)
    this.#expectSame(file, got, offset, 'by another process', length)
  }

  async #compareWhole(file: ShadowFile): Promise<void> {
    await this.#compareSize(file)
    const step = 1 << 20
    for (let at = 0; at <= file.content.length; at += step) await this.#compareRange(file, at, step, false)
  }

  async #compareByName(file: ShadowFile): Promise<void> {
    for (const name of file.names) {
      this.#expectSame(file, await this.#witness.call.readFile(name), 0, `as ${name} after closing`)
    }
  }

  #expectSame(file: ShadowFile, got: Buffer, offset: number, how: string, length = got.length): void {
    this.bytesCompared += got.length
    const expected = file.content.subarray(offset, offset + length)
    if (got.equals(expected)) return
    if (got.length !== expected.length) {
      this.#fail(
        file,
        `reading ${length} at ${offset} ${how} gave ${got.length} bytes, not ${expected.length}`,
        offset,
      )
    }
    const at = got.findIndex((byte, index) => byte !== expected[index])
    const span = (bytes: Buffer) => bytes.subarray(at, at + 8).toString('hex')
    this.#fail(file, `byte ${offset + at}, read ${how}: ${span(got)}…, not ${span(expected)}…`, offset + at)
  }

  #fail(file: ShadowFile, message: string, at?: number): never {
    const touched = this.#log
      .filter((entry) => entry.file === file && (at === undefined || (entry.start <= at && at < entry.end)))
      .slice(-12)
      .map(({ step, text }) => `  ${step}: ${text}`)
    const history = touched.length === 0 ? '' : `\nwhat was done there:\n${touched.join('\n')}`
    throw new StepFailure(this.#step, `${message} (${file.names[0] ?? 'unlinked'})${history}`)
  }
}

async function notOfferedHere(): Promise<FsxOperation['kind'][]> {
  const features = await featuresOfPlainDirectory()
  const kinds = {
    allocate: 'fallocate',
    punch: 'punchHole',
    zero: 'zeroRange',
    copy: 'copyFileRange',
  } as const
  return (['allocate', 'punch', 'zero', 'copy'] as const).filter((kind) => !features[kinds[kind]])
}

/**
 * Random operations on a few files, in the manner of fsx: after each one the size and a random range are compared
 * with what the file must hold, at the end all of it, by the same process and by another one.
 * @throws Error with seed, step, the history of the wrong byte and a short script that fails the same way
 */
export async function fsxExerciser(options: FsxOptions): Promise<FsxReport> {
  const { directory, seed, operations, hooks } = options
  const [worker, witness] = [new Agent('fsx', null), new Agent('fsx witness', null)]
  options.signal?.addEventListener('abort', () => void Promise.all([worker.kill(), witness.kill()]))
  let runs = 0
  let last: FsxRun | undefined
  try {
    await runScript<FsxOperation>({
      name: 'fsx',
      operation: operationArbitrary(options.without ?? (await notOfferedHere())),
      seed,
      operations,
      replay: options.replay,
      shrinkMs: options.shrinkMs ?? (hooks === undefined ? 20_000 : 0),
      async run(script, withHooks) {
        runs += 1
        const home = `${directory}/fsx-${seed}-${runs}`
        await worker.call.mkdir(home)
        last = new FsxRun(home, options, worker, witness)
        try {
          await last.run(script, options.files ?? 2, withHooks ? hooks : undefined)
        } finally {
          await worker.call.reset()
          await witness.call.reset()
          await worker.call.removeTree(home)
        }
      },
    })
    return {
      seed,
      counts: last?.counts ?? {},
      bytesWritten: last?.bytesWritten ?? 0,
      bytesCompared: last?.bytesCompared ?? 0,
    }
  } finally {
    await worker.stop()
    await witness.stop()
  }
}
