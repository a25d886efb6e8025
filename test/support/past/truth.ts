import { GUARDS } from '../../../src/base/inode-flags.ts'
import { CELL_BYTES, GARBAGE, type Run, ZEROS } from './cells.ts'
import { clockNs, type Question, type Seen } from './questions.ts'
import { type Span, Timeline } from './timeline.ts'

/** A file between two changes of it. */
export interface State extends Span {
  /** Which version wrote each cell. */
  readonly cells: Int32Array
  readonly mode: number
  /** Of its extended attribute. */
  readonly value: number
  readonly flags: number
}

/** A file of the volume, whatever its names are. */
export class TrueFile {
  readonly id: number
  readonly states: Timeline<State>
  version = 1
  /** When it was first moved or removed. */
  leftAt = Number.POSITIVE_INFINITY

  constructor(id: number, size: number, span: Span) {
    this.id = id
    this.states = new Timeline({
      ...span,
      cells: new Int32Array(size).fill(1),
      mode: 0o644,
      value: 1,
      flags: 0,
    })
  }

  get now(): State {
    return this.states.now
  }

  become(change: Partial<State>, span: Span): void {
    this.states.become({ ...this.now, ...change, ...span })
  }
}

/** What a name leads to. */
type Bound = TrueFile | 'directory' | undefined

interface Binding extends Span {
  readonly bound: Bound
}

const fileIn = ({ bound }: Binding): TrueFile | undefined => (bound instanceof TrueFile ? bound : undefined)

/**
 * For so long stat(2) may show what was, after something newer was seen (docs/posix.md): a listing that was under way when a name went
 * brings it back for as long as the kernel believes names, and while several READs of a file are under way the kernel keeps its
 * attributes. Whoever opens the file is told; but what another process has open may be opened by such a name.
 */
const BELIEVED_NS = 1_100_000_000

const NEVER: Span = { from: 0, to: 0 }

interface Place extends Span {
  readonly isThere: boolean
}

/** A directory may have one of two names: a letter and a number. It is the number that says which one it is. */
const directoryOf = (path: string): string => path.slice(0, path.indexOf('/'))
const entryOf = (path: string): string => path.slice(1)

/** What the volume has had, and what of it the mount may still show: old or new, never else, never older than seen before. */
export class Truth {
  /** What is under each name of each directory, whatever the directory is called. */
  readonly #entries = new Map<string, Timeline<Binding>>()
  /** Names of directories. */
  readonly #places = new Map<string, Timeline<Place>>()
  readonly #files = new Set<TrueFile>()
  /**
   * Whether an open shows what was done before it began. Not where the catalog has the authority: there the old state is right until
   * somebody looks at the volume.
   */
  readonly #isFresh: boolean
  #sealed = Number.POSITIVE_INFINITY
  /** Whether a reader keeps the file open. */
  isHeld: (file: TrueFile) => boolean = () => false
  /** Reads that were beside a change and had part of each, as on a local file system. */
  torn = 0

  constructor({ isFresh }: { isFresh: boolean }) {
    this.#isFresh = isFresh
  }

  /** The file that is at a path now. */
  at(path: string): TrueFile | undefined {
    const binding = this.#entries.get(entryOf(path))?.now
    return binding && fileIn(binding)
  }

  /** Names in directories: the number of the directory, and the name. */
  get entries(): IterableIterator<string> {
    return this.#entries.keys()
  }

  bind(path: string, bound: Bound, span: Span): void {
    if (bound instanceof TrueFile) this.#files.add(bound)
    const known = this.#entries.get(entryOf(path)) ?? new Timeline<Binding>({ ...NEVER, bound: undefined })
    left(known.now, span)
    known.become({ ...span, bound })
    this.#entries.set(entryOf(path), known)
  }

  place(directory: string, isThere: boolean, span: Span): void {
    const known = this.#places.get(directory) ?? new Timeline<Place>({ ...NEVER, isThere: false })
    known.become({ ...span, isThere })
    if (!isThere) this.#allLeft(directory, span)
    this.#places.set(directory, known)
  }

  #allLeft(directory: string, span: Span): void {
    for (const [entry, { now }] of this.#entries)
      if (entry.startsWith(`${entryOf(directory)}/`)) left(now, span)
  }

  /** What the volume becomes from now on is nobody's business: the mount does not look at it any more. */
  seal(): void {
    this.#sealed = clockNs()
  }

  /** All that began before that has been judged. */
  forgetBefore(moment: number): void {
    const horizon = moment - BELIEVED_NS
    for (const entry of this.#entries.values()) entry.forgetBefore(horizon)
    for (const place of this.#places.values()) place.forgetBefore(horizon)
    for (const { states } of this.#files) states.forgetBefore(horizon)
  }

  /** Whether an answer to a read shows what is at the path now. */
  isNewest(path: string, { errno, runs = [] }: Seen): boolean {
    const file = this.at(path)
    if (!file) return errno === 'ENOENT'
    return alien(file, runs) === undefined && isSame(file.now.cells, expanded(runs))
  }

  /** What is wrong with an answer; `undefined` if nothing is. `held`: the file that a reader keeps open. */
  judge(question: Question, answer: Seen, held?: TrueFile): string | undefined {
    const seen = {
      ...answer,
      from: Math.min(answer.from, this.#sealed),
      to: Math.min(answer.to, this.#sealed),
    }
    switch (question.ask) {
      case 'readHeld':
        return held && this.#heldRead(held, seen)
      case 'list':
        return this.#list(question.path, seen)
      case 'stat':
      case 'xattr':
      case 'flags':
        return this.#attributes(question, seen)
      default:
        return this.#read(question.path, seen)
    }
  }

  /** The file that a read was of. */
  fileOf(path: string, seen: Seen): TrueFile | undefined {
    return this.#bindings(path, seen)
      .map(fileIn)
      .find((file) => file !== undefined && file.id === seen.runs?.[0]?.file)
  }

  /**
   * A file that was moved past the overlay after it was taken over is two files for a while: the copy under its old name, and what the
   * volume has under the new one.
   */
  #by(path: string): string {
    return this.#isFresh ? '' : entryOf(path)
  }

  #bindings(path: string, seen: Span): Binding[] {
    return this.#entries.get(entryOf(path))?.possible(seen) ?? [{ ...NEVER, bound: undefined }]
  }

  #placesOf(path: string, seen: Span): Place[] {
    return this.#places.get(directoryOf(path))?.possible(seen) ?? [{ ...NEVER, isThere: false }]
  }

  /** The directory has been met under this name. */
  #met(path: string, seen: Span): boolean {
    const place = this.#placesOf(path, seen).find(({ isThere }) => isThere)
    if (place) this.#places.get(directoryOf(path))?.sighted(place, seen)
    return place !== undefined
  }

  /** There was a directory under the name; it has been seen. */
  #metDirectory(path: string, seen: Seen): boolean {
    const binding = this.#bindings(path, seen).find(({ bound }) => bound === 'directory')
    if (!binding || !this.#met(path, seen)) return false
    this.#entries.get(entryOf(path))?.sighted(binding, seen)
    return true
  }

  /** Either of the directory or of the file; where it can only have been one of them, that has been seen. */
  #absent(path: string, seen: Seen): string | undefined {
    const places = this.#placesOf(path, seen)
    const bindings = this.#bindings(path, seen)
    const place = places.find(({ isThere }) => !isThere)
    const binding = bindings.find(({ bound }) => bound === undefined)
    if (place && !binding) this.#places.get(directoryOf(path))?.sighted(place, seen)
    if (binding && !place) this.#entries.get(entryOf(path))?.sighted(binding, seen)
    return place || binding ? undefined : `${path}: ENOENT, and it was there all the time`
  }

  #read(path: string, seen: Seen): string | undefined {
    if (seen.errno === 'ENOENT') return this.#absent(path, seen)
    if (seen.errno === 'ESTALE' && this.#isBesideAChange(path, seen)) return undefined
    if (seen.errno === 'EISDIR' && this.#metDirectory(path, seen)) return undefined
    if (seen.errno !== undefined)
      return `${path}: ${seen.errno} at ${seen.from}-${seen.to}; ${history(this.#bindings(path, seen), seen)}; ${JSON.stringify(this.#placesOf(path, seen))}`
    const runs = seen.runs ?? []
    const bindings = this.#bindings(path, seen)
    const isOfFile = (one: Binding): boolean => fileIn(one)?.id === runs[0]?.file
    const binding = bindings.find(isOfFile)
    const file = binding ? fileIn(binding) : this.#heldBefore(path, seen, isOfFile)
    if (!file || !this.#met(path, seen))
      return `${path}: ${told(runs)}, which was not there, or was seen to be gone; ${history(bindings, seen)}`
    const wrong = this.#content(file, runs, { ...seen, by: this.#by(path) })
    if (wrong === undefined && binding) this.#entries.get(entryOf(path))?.sighted(binding, seen)
    return wrong && `${path}: ${wrong}`
  }

  /** A file that was there a moment ago, and that somebody has open. */
  #heldBefore(path: string, { from, to }: Span, isWanted: (one: Binding) => boolean): TrueFile | undefined {
    const before = this.#bindings(path, { from: from - BELIEVED_NS, to }).find(isWanted)
    const file = before && fileIn(before)
    return file && this.isHeld(file) ? file : undefined
  }

  /** Who has a file open may find part of each: he is beside the change until he opens it anew. */
  #heldRead(file: TrueFile, seen: Seen): string | undefined {
    // Its name is gone past the mount, and nobody may have met it under another one.
    if (seen.errno === 'ESTALE' && file.leftAt < seen.to) return undefined
    // With its last bytes, where it was taken over and not in the store yet.
    if (seen.errno === 'EIO' && !this.#isFresh && file.leftAt < seen.to) return undefined
    if (seen.errno !== undefined) return `file ${file.id}, kept open: ${seen.errno}`
    const states = file.states.possible(seen)
    const runs = seen.runs ?? []
    // What was read beside a write may be in the kernel's pages for a while.
    const isTorn = isBeside(states, { from: seen.from - BELIEVED_NS, to: seen.to })
    const wrong = alien(file, runs, isTorn) ?? notMadeOf(states, expanded(runs))
    return (
      wrong &&
      `file ${file.id}, kept open: ${wrong}: ${told(runs)} at ${seen.from}-${seen.to}, not ${statesOf(file, seen)}`
    )
  }

  #content(file: TrueFile, runs: readonly Run[], seen: Span & { readonly by: string }): string | undefined {
    const all = file.states.possible(seen, seen.by)
    const strange = alien(file, runs, isBeside(all, seen))
    if (strange !== undefined) return `${strange} at ${seen.from}-${seen.to}, not ${statesOf(file, seen)}`
    const read = expanded(runs)
    const states = this.#isFresh
      ? all.slice(
          Math.max(
            0,
            all.findLastIndex(({ to }) => to <= seen.from),
          ),
        )
      : all
    const isRead = (one: State): boolean => isSame(one.cells, read)
    if (states.some(isRead)) {
      // The bytes say nothing of what was changed beside them.
      const first = all.find(isRead)
      if (first) file.states.sighted(first, seen, seen.by)
      return undefined
    }
    const wrong = isBeside(states, seen)
      ? notMadeOf(states, read)
      : 'a state that it never had, or that is older than seen'
    if (wrong === undefined) this.torn += 1
    return wrong && `${wrong}: ${told(runs)} at ${seen.from}-${seen.to}, not ${statesOf(file, seen)}`
  }

  #attributes(
    { ask, path }: { ask: 'stat' | 'xattr' | 'flags'; path: string },
    seen: Seen,
  ): string | undefined {
    if (seen.errno === 'ENOENT') return this.#absent(path, seen)
    if (seen.errno === 'ESTALE' && this.#isBesideAChange(path, seen)) return undefined
    if ((seen.isDirectory || seen.errno === 'ENODATA') && this.#metDirectory(path, seen)) return undefined
    if (seen.errno !== undefined) return `${path}: ${ask}: ${seen.errno}`
    const isOf = (state: State, nth: number, all: readonly State[]): boolean => {
      if (ask === 'xattr') return state.value === seen.value
      if (ask === 'flags') return state.flags === ((seen.value ?? 0) & GUARDS)
      return !seen.isDirectory && state.mode === seen.mode && hasHad(seen.size ?? 0, state, all[nth - 1])
    }
    const span = { from: ask === 'stat' ? seen.from - BELIEVED_NS : seen.from, to: seen.to }
    const bindings = this.#bindings(path, span)
    const files = bindings.map(fileIn)
    if (files.some((file) => file?.states.possible(span, this.#by(path)).some(isOf))) return undefined
    return `${path}: ${ask}: it has not had since: ${JSON.stringify(seen)}; ${history(bindings, seen)}`
  }

  #list(directory: string, seen: Seen): string | undefined {
    if (seen.errno === 'ENOENT' || (seen.errno === 'ESTALE' && this.#isBesideAChange(`${directory}/`, seen)))
      return undefined
    if (seen.errno !== undefined) return `${directory}: ${seen.errno} at ${seen.from}-${seen.to}`
    const names = new Set(seen.names)
    for (const [entry, bindings] of this.#entries) {
      if (!entry.startsWith(`${entryOf(directory)}/`)) continue
      const isThere = names.has(entry.slice(entryOf(directory).length + 1))
      const possible = bindings.possible(seen)
      if (!possible.some(({ bound }) => (bound !== undefined) === isThere))
        return `${entry}: ${isThere ? 'listed' : 'not listed'}, which is older than seen, at ${seen.from}-${seen.to}: ${seen.names}; ${history(possible, seen)}`
    }
    return undefined
  }

  /** Renamed, replaced or removed between its open and its end, past the mount: nothing leads to what was opened. */
  #isBesideAChange(path: string, seen: Seen): boolean {
    // Where the catalog has the authority a change comes when it is noticed.
    if (!this.#isFresh && this.#bindings(path, seen).length > 1) return true
    const files = new Set(this.#bindings(path, seen).map(fileIn))
    const all: Span[] = [...this.#placesOf(path, seen), ...this.#bindings(path, seen)]
    // It may have been moved before, and have gone from where it was moved to.
    for (const entry of this.#entries.values()) {
      const possible = entry.possible(seen)
      const those = possible.map(fileIn)
      if (those.some((file) => file !== undefined && files.has(file))) all.push(...possible)
    }
    return all.some(({ from, to }) => from < seen.to && to > seen.from)
  }
}

function left(binding: Binding, { from }: Span): void {
  const file = fileIn(binding)
  if (file) file.leftAt = Math.min(file.leftAt, from)
}

const isBeside = (states: readonly Span[], seen: Span): boolean =>
  states.some(({ from, to }) => from < seen.to && to > seen.from)

/** What is not of the file. Beside a write cells can be half of one state and half of the next, as on a local file system. */
function alien(file: TrueFile, runs: readonly Run[], isTorn = false): string | undefined {
  const other = runs.find((run) => run.file !== file.id && !(isTorn && run.file === GARBAGE))
  if (!other) return undefined
  const what = other.file === ZEROS ? 'zeros' : other.file === GARBAGE ? 'what is in no file' : 'another file'
  return `${what} in file ${file.id}: ${told(runs)}`
}

/** Of a cell that is no cell: see `alien`. */
const TORN = 0

/** Why it is no mixture of these states; `undefined` if it is one. */
function notMadeOf(states: readonly State[], read: Int32Array): string | undefined {
  if (!states.some(({ cells }) => cells.length >= read.length)) return 'longer than it was'
  for (const [index, version] of read.entries())
    if (version !== TORN && !states.some(({ cells }) => cells[index] === version))
      return `cell ${index} is of no such state`
  return undefined
}

/** Whether a file has had the size: a write past the end makes it longer page by page, and who asks meanwhile sees that. */
function hasHad(size: number, state: State, before = state): boolean {
  const own = state.cells.length * CELL_BYTES
  return size === own || (size > before.cells.length * CELL_BYTES && size < own)
}

function expanded(runs: readonly Run[]): Int32Array {
  const read = new Int32Array(runs.reduce((sum, { count }) => sum + count, 0))
  let at = 0
  for (const { version, count } of runs) {
    read.fill(version, at, at + count)
    at += count
  }
  return read
}

const isSame = (one: Int32Array, other: Int32Array): boolean =>
  one.length === other.length && one.every((version, index) => version === other[index])

// ---- for messages

function runsIn({ id }: TrueFile, { cells }: State): Run[] {
  const runs: { file: number; version: number; count: number }[] = []
  for (const version of cells) {
    const last = runs.at(-1)
    if (last?.version === version) last.count += 1
    else runs.push({ file: id, version, count: 1 })
  }
  return runs
}

const told = (runs: readonly Run[]): string =>
  runs.map(({ file, version, count }) => `${file}v${version}x${count}`).join(' ') || 'nothing'

function statesOf(file: TrueFile, seen: Span): string {
  const one = (state: State): string => {
    const { from, to, mode, value, flags } = state
    return `[${from}-${to}: ${told(runsIn(file, state))}, ${mode.toString(8)}, ${value}, ${flags}]`
  }
  return file.states.possible(seen).map(one).join(' ')
}

const history = (bindings: readonly Binding[], seen: Span): string =>
  bindings
    .map(
      ({ from, bound }) =>
        `from ${from} ${bound instanceof TrueFile ? statesOf(bound, seen) : (bound ?? 'nothing')}`,
    )
    .join('; ')
