import { HASH_BYTES } from './hash.ts'

/** Entries of one list: of a manifest, or of a page that a list above it names. */
export const LIST_ENTRIES = 1024

/** Levels of pages that the largest file has. */
export const MOST_LEVELS = 3

/** Bits for the blocks of one chunk, in bytes. */
const ZERO_BYTES = 32

/** An object that a list names. `slot`: its place among those that the list could name. */
export interface Entry {
  readonly slot: number
  readonly hash: Buffer
  /** Which blocks of a chunk are zeros; `undefined` where none is known to be. */
  readonly zeros: Buffer | undefined
}

/** A list that this cannot be: cut off, out of order, or of what no file has. */
export class ListDamaged extends Error {}

const FORMAT = 2
const NO_HASH = Buffer.alloc(HASH_BYTES)

/**
 * How many levels of pages lie between a file's manifest and its chunks: as few as let a list name all that there could be. A
 * page of level 1 lists chunks, one of level 2 pages of level 1, and so on.
 */
export function levelsFor(chunks: number): number {
  let levels = 0
  for (let places = LIST_ENTRIES; places < chunks; places *= LIST_ENTRIES) levels += 1
  return levels
}

/** How many objects of a level it takes to list so many chunks. */
export function slotsOf(chunks: number, level: number): number {
  return Math.ceil(chunks / LIST_ENTRIES ** level)
}

/**
 * A list as bytes; what it does not name is a hole. A byte for the format; runs of entries as (entries left out, entries that
 * follow), 16 bits each, after their number; the hashes of all; (slot, bits) of those that have blocks of zeros, after their number.
 */
export function encodeList(entries: readonly Entry[]): Buffer {
  const runs: number[] = []
  let end = 0
  for (const { slot } of entries) {
    if (slot > end || runs.length === 0) runs.push(slot - end, 0)
    runs[runs.length - 1] = (runs[runs.length - 1] ?? 0) + 1
    end = slot + 1
  }
  const holed = entries.flatMap(({ slot, zeros }) => (zeros ? [{ slot, zeros }] : []))
  return Buffer.concat([
    Buffer.from([FORMAT]),
    words([runs.length / 2, ...runs]),
    ...entries.map(({ hash }) => hash),
    words([holed.length]),
    ...holed.flatMap(({ slot, zeros }) => [words([slot]), zeros]),
  ])
}

/** @throws ListDamaged if it is no list of entries with a slot below `slots` */
export function decodeList(bytes: Buffer, slots: number): Entry[] {
  const source = new Source(bytes)
  if (source.take(1)[0] !== FORMAT) throw new ListDamaged('it has another format')
  const places: number[] = []
  let end = 0
  for (let runs = source.word(); runs > 0; runs -= 1) {
    const from = end + source.word()
    end = from + source.word()
    if (end > slots || end === from) throw new ListDamaged('it lists more than the file has')
    for (let slot = from; slot < end; slot += 1) places.push(slot)
  }
  const hashes = places.map(() => source.take(HASH_BYTES))
  if (hashes.some((hash) => hash.equals(NO_HASH))) throw new ListDamaged('it names a hole')
  const zeros = new Map<number, Buffer>()
  for (let holed = source.word(); holed > 0; holed -= 1) {
    const slot = source.word()
    const bits = source.take(ZERO_BYTES)
    if (bits.every((byte) => byte === 0xff)) throw new ListDamaged('a chunk of zeros has an object')
    zeros.set(slot, bits)
  }
  if (!source.isAtEnd) throw new ListDamaged('it is longer than what it lists')
  return places.map((slot, at) => ({ slot, hash: hashes[at] ?? Buffer.alloc(0), zeros: zeros.get(slot) }))
}

function words(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 2)
  for (const [at, value] of values.entries()) bytes.writeUInt16LE(value, at * 2)
  return bytes
}

class Source {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  take(length: number): Buffer {
    const part = this.#bytes.subarray(this.#at, this.#at + length)
    if (part.length < length) throw new ListDamaged('it is cut off')
    this.#at += length
    return part
  }

  word(): number {
    return this.take(2).readUInt16LE()
  }
}
