import { isDirectory } from '../../base/attributes.ts'
import { Semaphore } from '../../base/concurrency.ts'
import { FsError, reasonOf } from '../../base/errors.ts'
import { wrongName } from '../../catalog/index.ts'
import { mkdirAt, unlinkAt } from '../../sys/index.ts'
import { ProgressMeter, type RunProgress } from '../progress.ts'
import { dress } from './attributes.ts'
import type { Destination } from './destination.ts'
import { EntryWriter, fromSource } from './entry-writer.ts'
import { settle } from './file-bytes.ts'
import { codeOf, type Finding, inWords, RestoreStopped, stopsAll } from './findings.ts'
import { finish } from './finish.ts'
import { guard, loosen } from './guards.ts'
import { hasExactly, leftovers } from './leftovers.ts'
import { OpenDirectory } from './open-directory.ts'
import { Place } from './place.ts'
import { behind, below, type Selection, whyNothingIsBehind } from './selection.ts'
import { type FileRef, SourceError, type SourceTree, type TreeEntry, type TreeFile } from './tree.ts'
import { find } from './work-directory.ts'

// Files under way at once, most of them waiting for the disk, and directories that are filled at once.
const FILES_AT_ONCE = 32
const BRANCHES = 8
// How often a file is begun again because it changed while it was read.
const ATTEMPTS = 3

const STORE_UNREACHABLE = 4
const FAILED = 1
const NOT_THERE = 'it is not in the tree'
const STAYS = '; what is written stays: mend that, and run the same command again to go on'

export interface RestoreOptions {
  readonly selection: Selection
  /** What is known before to be missing. */
  readonly known?: readonly Finding[]
  /** Open DEST to others though something is missing. */
  readonly acceptMissing: boolean
  readonly onProgress: (progress: RunProgress) => void
  readonly onFinding: (finding: Finding) => void
  readonly signal: AbortSignal
}

export interface RestoreResult {
  readonly files: number
  readonly bytes: number
  readonly missing: number
  /** Names in DEST that the tree does not have. */
  readonly extra: number
  readonly lacking: number
  readonly doubtful: number
  /** Files and directories that may be older than what was acknowledged. */
  readonly older: number
  /** The same may be so of all of the tree, and names may be missing. */
  readonly losses: number
  /** DEST is open to others, and no restore is under way there any more. */
  readonly finished: boolean
}

interface Filled extends FileRef {
  readonly place: Place
  readonly open: OpenDirectory
  readonly selection: Selection
  /** Names that are there, as they should be, and those that are not and were told of. */
  put: number
  failed: number
}

/**
 * Writes a tree to DEST as plain files: owners, modes, times, extended attributes, hard links, holes and special files as they are in
 * the tree. What is there already from an earlier run and right is kept, and what others may have put there is not replaced.
 *
 * Safe: nobody but the caller can get into DEST until all is done; every access is one name relative to a directory's descriptor, and
 * no symlink is followed. Bounded: a few pages of names, chunks and descriptors are in memory, whatever the size of the tree.
 */
export class Restore {
  readonly #tree: SourceTree
  readonly #destination: Destination
  readonly #options: RestoreOptions
  readonly #meter: ProgressMeter
  readonly #writer: EntryWriter
  readonly #files: Semaphore
  readonly #syncs = new Semaphore(FILES_AT_ONCE)
  readonly #settling = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #foldsNames: boolean
  #branches = BRANCHES
  #missing = 0
  #extra = 0
  #lacking = 0
  #doubtful = 0
  #older = 0
  #pinging: Promise<void> | undefined

  constructor(tree: SourceTree, destination: Destination, options: RestoreOptions) {
    this.#tree = tree
    this.#destination = destination
    this.#options = options
    this.#meter = new ProgressMeter('restoring', options.onProgress)
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#writer = new EntryWriter(tree, destination.work, { meter: this.#meter, signal: this.#signal })
    this.#foldsNames = destination.work.foldsNames
    // Two names that are one to DEST must not both find that there is nothing yet.
    this.#files = new Semaphore(this.#foldsNames ? 1 : FILES_AT_ONCE)
  }

  /** @throws RestoreStopped where it cannot go on; the next run goes on from there */
  async run(): Promise<RestoreResult> {
    const { selection, acceptMissing } = this.#options
    const root = await this.#ask(() => this.#tree.root())
    for (const finding of this.#options.known ?? []) this.#tell(finding)
    const totals = await this.#ask(() => this.#tree.totals())
    const { losses = [] } = totals
    for (const reason of losses) this.#options.onFinding({ path: '.', kind: 'older', reason })
    if (selection.whole) {
      this.#meter.filesTotal = totals.files
      this.#meter.bytesTotal = totals.bytes
    }
    await this.#fillAll(root)
    this.#meter.tick(true)
    // Where a file is in doubt there is a loss, too.
    const isAsTree = this.#missing + this.#extra + losses.length === 0
    const finished = isAsTree || acceptMissing
    const isComplete = isAsTree && selection.whole
    this.#found('lacking', new Place(), await this.#finish(finished ? root : undefined, isComplete))
    if (!this.#destination.isInPlace)
      this.#found('missing', new Place(), [`${this.#destination.path} was moved or replaced meanwhile`])
    return {
      files: this.#meter.files,
      bytes: this.#writer.bytes,
      missing: this.#missing,
      extra: this.#extra,
      lacking: this.#lacking,
      doubtful: this.#doubtful,
      older: this.#older,
      losses: losses.length,
      finished,
    }
  }

  async #fillAll(root: TreeFile): Promise<void> {
    const { selection } = this.#options
    const open = new OpenDirectory(this.#destination.descriptor, 0)
    try {
      await this.#fill({ ...pick(root), place: new Place(), open, selection, put: 0, failed: 0 }, root)
    } finally {
      await Promise.all(this.#settling)
    }
    this.#signal.throwIfAborted()
    this.#found('lacking', new Place(), this.#writer.guardLinked())
  }

  async #finish(root: TreeFile | undefined, isComplete: boolean): Promise<string[]> {
    try {
      return await finish(this.#destination, root, isComplete)
    } catch (error) {
      throw new RestoreStopped(
        `DEST ${this.#destination.path}: ${inWords(error)}; run the same command again to go on`,
        FAILED,
        { cause: error },
      )
    }
  }

  // ---- directories

  /** Fills a directory and all below it, and leaves it open. @throws RestoreStopped */
  async #fill(directory: Filled, file: TreeFile): Promise<void> {
    const branches = new Set<Promise<void>>()
    try {
      for await (const entries of this.#pages(directory)) {
        const directories = await this.#putFiles(directory, entries)
        for (const entry of directories) await this.#descend(directory, entry, branches)
      }
      await Promise.all(branches)
    } catch (error) {
      this.#stop.abort(error)
      await Promise.allSettled(branches)
      throw error
    }
    await this.#requireUnchanged(directory, file)
    if (!directory.selection.whole) return
    await this.#compareNames(directory)
    await this.#requireNamed(directory)
  }

  async *#pages(directory: Filled): AsyncGenerator<readonly TreeEntry[]> {
    if (!directory.selection.whole) {
      yield await this.#selected(directory)
      return
    }
    for (let from: string | undefined, first = true; first || from !== undefined; first = false) {
      this.#signal.throwIfAborted()
      const at = from
      try {
        const page = await this.#ask(() => this.#tree.list(directory, at))
        from = page.next
        yield page.entries
      } catch (error) {
        if (!(error instanceof SourceError)) throw error
        this.#found('missing', directory.place, [`what is in it cannot be listed: ${error.message}`])
        return
      }
    }
  }

  async #selected(directory: Filled): Promise<TreeEntry[]> {
    const entries: TreeEntry[] = []
    for (const key of directory.selection.names.keys()) {
      const name = Buffer.from(key, 'latin1')
      const entry = await this.#ask(() => this.#tree.look(directory, name)).catch((error: unknown) => {
        if (!(error instanceof SourceError)) throw error
        return { name, reason: error.message }
      })
      entries.push(entry ?? { name, reason: NOT_THERE })
    }
    return entries
  }

  /** What was asked for by name is no less missing where the whole directory was asked for as well. */
  async #requireNamed(directory: Filled): Promise<void> {
    for (const { name, reason } of await this.#selected(directory))
      if (reason === NOT_THERE) this.#found('missing', directory.place.below(name), [reason])
  }

  /** Puts all but the directories of a page; those are the answer. */
  async #putFiles(
    directory: Filled,
    entries: readonly TreeEntry[],
  ): Promise<Array<{ name: Buffer; file: TreeFile }>> {
    const directories: Array<{ name: Buffer; file: TreeFile }> = []
    const ended = await Promise.allSettled(
      entries.map(async ({ name, file, reason }) => {
        const place = directory.place.below(name)
        const wrong = wrongName(name)
        if (wrong !== undefined || !file) {
          this.#found('missing', place, [wrong ?? reason ?? 'it cannot be looked at'])
          directory.failed += 1
        } else if (isDirectory(file.attributes.mode)) directories.push({ name, file })
        else if (this.#isSelected(below(directory.selection, name), place, file))
          await this.#files.run(() => this.#putFile(directory, name, file))
      }),
    )
    for (const one of ended) if (one.status === 'rejected') throw one.reason
    return directories
  }

  /** Whether a file that is no directory was asked for. What was asked for behind it is missing. */
  #isSelected(selection: Selection, place: Place, file: TreeFile): boolean {
    for (const at of behind(selection, place)) this.#found('missing', at, [whyNothingIsBehind(place, file)])
    return selection.whole
  }

  async #descend(
    directory: Filled,
    { name, file }: { name: Buffer; file: TreeFile },
    branches: Set<Promise<void>>,
  ): Promise<void> {
    this.#signal.throwIfAborted()
    const place = directory.place.below(name)
    const selection = below(directory.selection, name)
    let open: OpenDirectory
    try {
      this.#makeDirectory(directory, name)
      open = OpenDirectory.below(directory.open, name)
    } catch (error) {
      this.#failed(place, error)
      directory.failed += 1
      return
    }
    if (!this.#isOwn(directory, name)) directory.put += 1
    const body = async (): Promise<void> => {
      try {
        await this.#fill({ ...pick(file), place, open, selection, put: 0, failed: 0 }, file)
        this.#inDoubt(place, file)
        this.#found('lacking', place, [...dress(open.descriptor, file), ...guard(open.descriptor, file)])
        directory.open.resume(open)
      } catch (error) {
        open.close()
        throw error
      }
      await this.#settleLater(place, open)
    }
    if (this.#branches === 0) {
      directory.open.suspend()
      await body()
      return
    }
    this.#branches -= 1
    const branch = body().finally(() => {
      this.#branches += 1
      branches.delete(branch)
    })
    // Whoever waits for it hears of it.
    branch.catch(() => undefined)
    branches.add(branch)
  }

  #makeDirectory(directory: Filled, name: Buffer): void {
    const { descriptor } = directory.open
    const existing = this.#existing(directory, name)
    if (existing && !isDirectory(existing.mode)) this.#destination.work.requireReplaceable()
    loosen(descriptor, name, existing)
    if (existing && isDirectory(existing.mode)) return
    if (existing) unlinkAt(descriptor, name)
    mkdirAt(descriptor, name, 0o700)
  }

  /** Nobody waits for one directory to reach the medium, but the end of the run waits for all. */
  async #settleLater(place: Place, open: OpenDirectory): Promise<void> {
    await this.#syncs.acquire()
    const settling = settle(open.descriptor)
      .catch((error: unknown) => this.#failed(place, error))
      .catch((error: unknown) => this.#stop.abort(error))
      .finally(() => {
        open.close()
        this.#syncs.release()
        this.#settling.delete(settling)
      })
    this.#settling.add(settling)
  }

  /** A directory that an application changed meanwhile may have names that were not met. */
  async #requireUnchanged({ place, ...directory }: Filled, file: TreeFile): Promise<void> {
    try {
      if ((await this.#ask(() => this.#tree.stamp(directory))) === file.stamp) return
      this.#found('missing', place, ['it was changed while it was written out; restore again'])
    } catch (error) {
      this.#failed(place, error)
    }
  }

  /** What is in the directory is what the tree has there, no more and no less. */
  async #compareNames(directory: Filled): Promise<void> {
    const { place, open, put, failed } = directory
    try {
      const there = await leftovers(open.descriptor, put, {
        work: this.#destination.work,
        isOwn: (name) => this.#isOwn(directory, name),
        isInTree: async (name) => (await this.#ask(() => this.#tree.look(directory, name))) !== undefined,
        onExtra: (name) =>
          this.#found('extra', place.below(name), [
            'it is in DEST and not in the tree; remove it in DEST, and run the same command again',
          ]),
      })
      if (there >= put) return
      // A listing may name a file twice while it is met for the first time by somebody else.
      let absent = -failed
      for await (const entries of this.#pages(directory)) {
        for (const { name } of entries) if (!this.#isThere(directory, name)) absent += 1
      }
      if (absent > 0) this.#found('missing', place, [`${absent} more of its names are not there`])
    } catch (error) {
      this.#failed(place, error)
    }
  }

  #isThere(directory: Filled, name: Buffer): boolean {
    if (wrongName(name) !== undefined) return false
    try {
      return this.#existing(directory, name) !== undefined
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      return false
    }
  }

  #isOwn({ open }: Filled, name: Buffer): boolean {
    return open.depth === 0 && this.#destination.isOwnName(name)
  }

  // ---- files

  async #putFile(directory: Filled, name: Buffer, file: TreeFile): Promise<void> {
    const place = directory.place.below(name)
    try {
      const lacks = await this.#attempt(directory, name, file)
      if (!lacks) return
      this.#inDoubt(place, file)
      if (!this.#isOwn(directory, name)) directory.put += 1
      this.#meter.files += 1
      this.#meter.tick()
      this.#found('lacking', place, lacks)
    } catch (error) {
      await this.#requireStore(error)
      this.#failed(place, error)
      directory.failed += 1
      this.#discard(directory, name)
    }
  }

  /** What the file lacks in DEST; undefined if it was removed meanwhile: its directory has changed then, and says so. */
  async #attempt(directory: Filled, name: Buffer, file: TreeFile): Promise<string[] | undefined> {
    for (let now = file, attempt = 1; ; attempt += 1) {
      this.#signal.throwIfAborted()
      if (this.#foldsNames) this.#existing(directory, name)
      try {
        return await this.#writer.put(directory.open.descriptor, name, now)
      } catch (error) {
        if (!(error instanceof SourceError) || error.kind !== 'changed' || attempt === ATTEMPTS) throw error
      }
      const entry = await this.#ask(() => this.#tree.look(directory, name))
      if (!entry || (entry.file && isDirectory(entry.file.attributes.mode))) return undefined
      if (!entry.file) throw new SourceError('other', entry.reason)
      now = entry.file
    }
  }

  /** What is under the name is not the file. Where it cannot be removed, the line of the report says what it is not. */
  #discard(directory: Filled, name: Buffer): void {
    if (this.#destination.work.mayBeOthers) return
    try {
      // What DEST takes for this name may be another file.
      const existing = this.#existing(directory, name)
      if (!existing || isDirectory(existing.mode)) return
      loosen(directory.open.descriptor, name, existing)
      unlinkAt(directory.open.descriptor, name)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
    }
  }

  /** What DEST has under the name. @throws FsError where that is there under another name */
  #existing({ open, place }: Filled, name: Buffer): ReturnType<typeof find> {
    const existing = find(open.descriptor, name)
    if (existing && this.#foldsNames && !hasExactly(open.descriptor, name))
      throw new FsError('EEXIST', `DEST takes it for another name in ${place}`)
    return existing
  }

  // ---- what goes wrong

  /** @throws RestoreStopped if the error is of all of DEST, or somebody has stopped the run */
  #failed(place: Place, error: unknown): void {
    if (this.#signal.aborted) throw this.#signal.reason
    if (stopsAll(error)) {
      throw new RestoreStopped(`${place}: ${inWords(error)}${STAYS}`, FAILED, { cause: error })
    }
    const isOfSource = error instanceof SourceError
    if (!isOfSource && codeOf(error) === undefined) throw error
    this.#found('missing', place, [isOfSource ? error.message : inWords(error)])
  }

  #found(kind: Finding['kind'], place: Place, reasons: readonly string[]): void {
    if (reasons.length > 0) this.#tell({ path: place.toString(), kind, reason: reasons.join('; ') })
  }

  /** It is there, as the tree has it. */
  #inDoubt(place: Place, { doubt }: TreeFile): void {
    this.#found('older', place, doubt === undefined ? [] : [doubt])
  }

  #tell(finding: Finding): void {
    if (finding.kind === 'missing') this.#missing += 1
    else if (finding.kind === 'extra') this.#extra += 1
    else if (finding.kind === 'lacking') this.#lacking += 1
    else if (finding.kind === 'older') this.#older += 1
    else this.#doubtful += 1
    this.#options.onFinding(finding)
  }

  /** A request without which nothing can be said of a whole directory. @throws SourceError, RestoreStopped */
  async #ask<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await fromSource(body)
    } catch (error) {
      await this.#requireStore(error)
      throw error
    }
  }

  /** Where the whole store is away each file would fail in its turn. @throws RestoreStopped */
  async #requireStore(error: unknown): Promise<void> {
    if (!(error instanceof SourceError) || this.#signal.aborted) return
    if (error.kind === 'gone') throw new RestoreStopped(`${error.message}${STAYS}`, FAILED, { cause: error })
    if (error.kind !== 'away') return
    this.#pinging ??= this.#tree.ping().finally(() => {
      this.#pinging = undefined
    })
    try {
      await this.#pinging
    } catch (cause) {
      throw new RestoreStopped(
        `the store does not answer: ${reasonOf(cause)}; what is written stays: run the same command again when it does, to go on`,
        STORE_UNREACHABLE,
        { cause },
      )
    }
  }
}

const pick = ({ ino, generation }: FileRef): FileRef => ({ ino, generation })
