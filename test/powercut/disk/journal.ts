import type { Event } from '../recording/events.ts'
import { copyOf, type FileImage, newFile, PAGE, resize, type VolumeImage, writePage, zero } from './image.ts'

const PUNCH = 2
const ZERO_RANGE = 16
const KEEP_SIZE = 1
const EXCHANGE = 2

/** Which of the data that need not be on the disk yet is there. Files are told by the order in which they appear. */
export interface Writeback {
  /** The page was written back last with all that had been written to it up to this event. */
  upTo(file: number, page: number, synced: number): number
  /** A size beyond the data that was written back is there: its end reads as zeros. */
  sizeFirst(file: number): boolean
}

/** Everything that was asked for has reached the disk. */
export const EVERYTHING: Writeback = { upTo: () => Number.POSITIVE_INFINITY, sizeFirst: () => false }

/** Nothing but what was synced. */
export const NOTHING: Writeback = { upTo: (_file, _page, synced) => synced, sizeFirst: () => false }

interface Live {
  size: number
  readonly pages: Set<number>
  /** Last change that fsync has to bring to the disk, and the last that fdatasync has to. */
  changed: number
  changedData: number
}

/**
 * One volume: what was there, what was asked of it, and what of that a power cut can leave. docs/power-cut.md says the rules
 * in words.
 */
export class Journal {
  readonly base: VolumeImage
  readonly events: readonly Event[]
  /** By position: up to which event the journal is on the disk at least. */
  readonly #forced: Array<{ readonly seq: number; readonly upTo: number }> = []
  /** By file: events at which its data was synced. */
  readonly #synced = new Map<number, number[]>()
  readonly #ordinals = new Map<number, number>()
  readonly #replacing: Array<{ readonly seq: number; readonly ino: number }> = []
  /** Pages a part of which was made zeros: what had been written to the rest reaches the disk with that. */
  readonly #zeroed: Array<{ readonly seq: number; readonly ino: number; readonly page: number }> = []

  constructor(base: VolumeImage, events: readonly Event[]) {
    this.base = base
    this.events = events
    this.#follow()
  }

  /** Everything up to this event is on the disk for certain, names and attributes and sizes. */
  forcedAt(cut: number): number {
    let upTo = -1
    for (const point of this.#forced) {
      if (point.seq > cut) break
      upTo = point.upTo
    }
    return upTo
  }

  /** Up to which event the data of a file is on the disk for certain. */
  syncedAt(ino: number, cut: number): number {
    let last = -1
    for (const seq of this.#synced.get(ino) ?? []) if (seq <= cut) last = seq
    return last
  }

  /**
   * What is on the disk when the power goes behind event `cut`: the journal up to `commit` (from `forcedAt(cut)` to `cut`),
   * and data as `writeback` says.
   */
  imageAt(cut: number, commit: number, writeback: Writeback): VolumeImage {
    const image = copyOf(this.base)
    const floors = this.#floors(cut, commit)
    for (const event of this.events) {
      if (event.seq > cut) break
      const committed = event.seq <= commit
      if (event.kind === 'write') {
        const ordinal = this.#ordinals.get(event.ino) ?? -1
        const floor = (page: number): number =>
          Math.max(floors(event.ino), this.#zeroedAt(event.ino, page, commit))
        write(image, event, { committed, ordinal, floor, writeback })
      } else if (committed) change(image, event)
      else freeze(image, event)
    }
    return image
  }

  /** A rename onto a name that was taken has the data of the file that it brings written out first (auto_da_alloc). */
  #floors(cut: number, commit: number): (ino: number) => number {
    const replacing = new Map<number, number>()
    for (const { seq, ino } of this.#replacing) if (seq <= commit) replacing.set(ino, seq)
    const known = new Map<number, number>()
    return (ino) => {
      let floor = known.get(ino)
      if (floor === undefined) {
        floor = Math.max(this.syncedAt(ino, cut), replacing.get(ino) ?? -1)
        known.set(ino, floor)
      }
      return floor
    }
  }

  #zeroedAt(ino: number, page: number, commit: number): number {
    const found = this.#zeroed.findLast(
      (each) => each.ino === ino && each.page === page && each.seq <= commit,
    )
    return found?.seq ?? -1
  }

  /** What is written to a page that has no block any more needs the journal again. */
  #noteHole(file: Live, { seq, ino, b: from, c: length }: Event): void {
    const to = Math.min(from + length, file.size)
    for (const page of file.pages) {
      if (page * PAGE >= from && (page + 1) * PAGE <= to) file.pages.delete(page)
    }
    this.#noteZeroed(seq, ino, from, from + length)
  }

  #noteZeroed(seq: number, ino: number, from: number, to: number): void {
    for (const edge of [from, to]) {
      if (edge % PAGE !== 0) this.#zeroed.push({ seq, ino, page: Math.floor(edge / PAGE) })
    }
  }

  #follow(): void {
    const live = new Map<number, Live>()
    for (const [ino, { size, pages }] of this.base.files) {
      live.set(ino, { size, pages: new Set(pages.keys()), changed: -1, changedData: -1 })
      this.#ordinals.set(ino, this.#ordinals.size)
    }
    const of = (ino: number): Live => {
      const known = live.get(ino)
      if (known) return known
      const found = { size: 0, pages: new Set<number>(), changed: -1, changedData: -1 }
      live.set(ino, found)
      this.#ordinals.set(ino, this.#ordinals.size)
      return found
    }
    let upTo = -1
    const force = (seq: number, to: number): void => {
      if (to <= upTo) return
      upTo = to
      this.#forced.push({ seq, upTo })
    }
    const sync = (ino: number, seq: number): void => {
      this.#synced.set(ino, [...(this.#synced.get(ino) ?? []), seq])
    }
    for (const event of this.events) {
      const { seq, ino } = event
      const file = of(ino)
      switch (event.kind) {
        case 'fsync':
          sync(ino, seq)
          force(seq, file.changed)
          break
        case 'fdatasync':
          sync(ino, seq)
          force(seq, file.changedData)
          break
        case 'syncfs':
          for (const each of live.keys()) sync(each, seq)
          force(seq, seq)
          break
        default:
          this.#note(event, of)
      }
    }
  }

  #note(event: Event, of: (ino: number) => Live): void {
    const { seq, kind, ino, parent, parent2, other } = event
    const file = of(ino)
    for (const each of [ino, parent, parent2, other]) if (each !== 0) of(each).changed = seq
    if (kind === 'create') file.changedData = seq
    if (kind === 'rename') {
      for (const each of [parent, parent2]) of(each).changedData = seq
      if (other !== 0 && (event.a & EXCHANGE) === 0) this.#replacing.push({ seq, ino })
    }
    if (kind === 'truncate') {
      file.changedData = seq
      if (event.a < file.size) this.#noteZeroed(seq, ino, event.a, 0)
      file.size = event.a
      for (const page of file.pages) if (page * PAGE >= event.a) file.pages.delete(page)
    }
    if (kind === 'fallocate') {
      file.changedData = seq
      if ((event.a & (PUNCH | ZERO_RANGE)) !== 0) this.#noteHole(file, event)
      if ((event.a & KEEP_SIZE) === 0) file.size = Math.max(file.size, event.b + event.c)
    }
    if (kind !== 'write') return
    const end = event.a + event.data.length
    if (end > file.size) {
      file.changedData = seq
      file.size = end
    }
    for (let page = Math.floor(event.a / PAGE); page * PAGE < end; page += 1) {
      if (file.pages.has(page)) continue
      file.pages.add(page)
      file.changedData = seq
    }
  }
}

interface Reached {
  readonly committed: boolean
  readonly ordinal: number
  /** Up to which event what was written to the page is on the disk for certain. */
  readonly floor: (page: number) => number
  readonly writeback: Writeback
}

function write(image: VolumeImage, event: Event, { committed, ordinal, floor, writeback }: Reached): void {
  const file = image.files.get(event.ino)
  if (!file) return
  const end = event.a + event.data.length
  for (let page = Math.floor(event.a / PAGE); page * PAGE < end; page += 1) {
    if (file.frozen?.(page)) continue
    const from = Math.max(event.a, page * PAGE)
    const to = Math.min(end, (page + 1) * PAGE)
    const isMapped = file.pages.has(page)
    // New blocks come with the journal; bytes in blocks that are there need nothing.
    if (!isMapped && !committed) continue
    if (event.seq <= Math.max(floor(page), writeback.upTo(ordinal, page, floor(page)))) {
      writePage(file, page, from - page * PAGE, event.data.subarray(from - event.a, to - event.a))
      if (committed) file.size = Math.max(file.size, to)
    } else if (committed && writeback.sizeFirst(ordinal)) file.size = Math.max(file.size, to)
  }
  if (committed) file.state = event.state
}

/** A change of a name, an attribute or a file's blocks, as the journal has it. */
function change(image: VolumeImage, event: Event): void {
  const { files } = image
  const file = files.get(event.ino)
  const parent = files.get(event.parent)
  switch (event.kind) {
    case 'create': {
      const isLink = (event.state.mode & 0o170000) === 0o120000
      files.set(
        event.ino,
        newFile(event.ino, event.state, isLink ? event.data.toString('latin1') : undefined),
      )
      parent?.children.set(event.name, event.ino)
      break
    }
    case 'link':
      parent?.children.set(event.name, event.ino)
      break
    case 'unlink':
      parent?.children.delete(event.name)
      break
    case 'rename': {
      const to = files.get(event.parent2)
      parent?.children.delete(event.name)
      to?.children.set(event.name2, event.ino)
      if ((event.a & EXCHANGE) !== 0) parent?.children.set(event.name, event.other)
      moveTime(to, event.parentTimeNs)
      const other = files.get(event.other)
      if (other) other.state = { ...other.state, ctimeNs: event.otherTimeNs }
      break
    }
    case 'truncate':
      if (file) resize(file, event.a)
      break
    case 'fallocate':
      if (file) allocate(file, event)
      break
    case 'setxattr':
      file?.xattrs.set(event.name, Buffer.from(event.data))
      break
    case 'removexattr':
      file?.xattrs.delete(event.name)
      break
  }
  if (file) file.state = event.state
  if (event.parent !== 0) moveTime(parent, event.parentTimeNs)
}

function moveTime(directory: FileImage | undefined, timeNs: bigint): void {
  if (directory) directory.state = { ...directory.state, mtimeNs: timeNs, ctimeNs: timeNs }
}

function allocate(file: FileImage, { a: mode, b: offset, c: length }: Event): void {
  const end = offset + length
  if ((mode & (PUNCH | ZERO_RANGE)) !== 0) zero(file, offset, Math.min(end, file.size))
  if ((mode & KEEP_SIZE) === 0 && end > file.size) file.size = end
}

/** A change of a file's blocks that the journal has not: what was written to new ones later is not there either. */
function freeze(image: VolumeImage, event: Event): void {
  const file = image.files.get(event.ino)
  if (!file) return
  const before = file.frozen
  if (event.kind === 'truncate') {
    const first = Math.floor(event.a / PAGE)
    file.frozen = (page) => page >= first || before?.(page) === true
  } else if (event.kind === 'fallocate' && (event.a & (PUNCH | ZERO_RANGE)) !== 0) {
    const first = Math.floor(event.b / PAGE)
    const last = Math.floor((event.b + event.c - 1) / PAGE)
    file.frozen = (page) => (page >= first && page <= last) || before?.(page) === true
  }
}
