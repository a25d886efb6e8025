import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import { crc32 } from 'node:zlib'

/** The row of a file that was met without room, or one of its names. */
export type MetNote =
  | { readonly ino: bigint; readonly row: ReadonlyArray<bigint | number | string | Uint8Array | null> }
  | { readonly ino: bigint; readonly parent: bigint; readonly name: Uint8Array }

interface Slot {
  readonly at: number
  readonly bytes: number
}

// A slot: its size (never changed), a CRC-32 of all behind it in use, the length of the note (0: free), its number, the note.
const HEADER_BYTES = 20
const FIRST_BYTES = 256
// Of memory that nobody gets back before the mount ends; some 100,000 files.
const MOST_BYTES = 64 * 1024 * 1024

/**
 * Notes of files that were met without room, in a file in memory that outlives the worker: the supervisor holds it. A note is
 * complete before the request is answered by which the file was met. A new note is there before an old one of the same goes; of two
 * the later counts, and one that a kill has torn counts for nothing. Notes that find no room are left out: to a successor such a file is
 * one that was never looked at.
 */
export class MetNotes {
  readonly #descriptor: number
  readonly #slots = new Map<string, Slot>()
  readonly #free = new Map<number, number[]>()
  readonly #onLost: (error: unknown) => void
  #end = 0
  #number = 0n
  #lost = false

  /** `onLost` is told once when a note finds no room. */
  constructor(path: string, onLost: (error: unknown) => void) {
    this.#descriptor = openSync(path, 'r+')
    this.#onLost = onLost
  }

  /** What a predecessor noted, rows first. To be asked for first, and once. */
  *read(): Generator<MetNote, undefined> {
    const latest = new Map<string, { slot: Slot; number: bigint }>()
    const { size } = fstatSync(this.#descriptor)
    const header = Buffer.alloc(HEADER_BYTES)
    for (let at = 0; at + HEADER_BYTES <= size; ) {
      readSync(this.#descriptor, header, 0, HEADER_BYTES, at)
      const bytes = header.readUInt32LE(0)
      // Torn as it was made: nothing is behind it.
      if (bytes < FIRST_BYTES || at + bytes > size) break
      const slot = { at, bytes }
      const found = header.readUInt32LE(8) === 0 ? undefined : this.#noteIn(slot)
      const key = found && keyOf(found.note)
      const before = key === undefined ? undefined : latest.get(key)
      if (!found || key === undefined || (before && before.number > found.number)) this.#release(slot)
      else {
        if (before) this.#release(before.slot)
        latest.set(key, { slot, number: found.number })
        if (found.number > this.#number) this.#number = found.number
      }
      at += bytes
      this.#end = at
    }
    for (const [key, { slot }] of latest) this.#slots.set(key, slot)
    for (const isRow of [true, false]) {
      for (const { slot } of latest.values()) {
        const found = this.#noteIn(slot)
        if (found && 'row' in found.note === isRow) yield found.note
      }
    }
  }

  put(note: MetNote): void {
    const key = keyOf(note)
    const before = this.#slots.get(key)
    this.#slots.delete(key)
    try {
      this.#write(key, note)
    } catch (error) {
      if (!this.#lost) this.#onLost(error)
      this.#lost = true
    }
    if (before) this.#release(before)
  }

  removeRow(ino: bigint): void {
    this.#remove(rowKey(ino))
  }

  removeName(parent: bigint, name: Uint8Array): void {
    this.#remove(nameKey(parent, name))
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #remove(key: string): void {
    const slot = this.#slots.get(key)
    if (!slot) return
    this.#slots.delete(key)
    this.#release(slot)
  }

  #write(key: string, note: MetNote): void {
    const value = serialize(note)
    const wanted = HEADER_BYTES + value.length
    let bytes = FIRST_BYTES
    while (bytes < wanted) bytes *= 2
    const at = this.#free.get(bytes)?.pop() ?? this.#grow(bytes)
    this.#number += 1n
    const slot = Buffer.alloc(HEADER_BYTES + value.length)
    slot.writeUInt32LE(bytes, 0)
    slot.writeUInt32LE(value.length, 8)
    slot.writeBigUInt64LE(this.#number, 12)
    value.copy(slot, HEADER_BYTES)
    slot.writeUInt32LE(crc32(slot.subarray(8)), 4)
    writeSync(this.#descriptor, slot, 0, slot.length, at)
    this.#slots.set(key, { at, bytes })
  }

  #grow(bytes: number): number {
    const at = this.#end
    if (at + bytes > MOST_BYTES) throw new RangeError(`more than ${MOST_BYTES} bytes of notes`)
    // All of the slot, so that the next one is found behind it.
    const whole = Buffer.alloc(bytes)
    whole.writeUInt32LE(bytes, 0)
    if (writeSync(this.#descriptor, whole, 0, bytes, at) < bytes) throw new Error('a note found no room')
    this.#end = at + bytes
    return at
  }

  #release({ at, bytes }: Slot): void {
    const free = Buffer.alloc(HEADER_BYTES)
    free.writeUInt32LE(bytes, 0)
    writeSync(this.#descriptor, free, 0, HEADER_BYTES, at)
    const slots = this.#free.get(bytes)
    if (slots) slots.push(at)
    else this.#free.set(bytes, [at])
  }

  #noteIn({ at, bytes }: Slot): { note: MetNote; number: bigint } | undefined {
    const slot = Buffer.alloc(bytes)
    readSync(this.#descriptor, slot, 0, slot.length, at)
    const length = slot.readUInt32LE(8)
    const used = slot.subarray(8, HEADER_BYTES + length)
    if (HEADER_BYTES + length > slot.length || crc32(used) !== slot.readUInt32LE(4)) return undefined
    const note = deserialize(slot.subarray(HEADER_BYTES, HEADER_BYTES + length)) as MetNote
    return { note, number: slot.readBigUInt64LE(12) }
  }
}

const rowKey = (ino: bigint): string => `${ino}`
const nameKey = (parent: bigint, name: Uint8Array): string =>
  `${parent} ${Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1')}`
const keyOf = (note: MetNote): string => ('row' in note ? rowKey(note.ino) : nameKey(note.parent, note.name))
