import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type MetNote, MetNotes } from '../../../src/catalog/met-notes.ts'

let directory: string
let path: string
const lost: unknown[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-notes-'))
  path = join(directory, 'notes')
  writeFileSync(path, '')
  lost.length = 0
})

afterEach(() => rmSync(directory, { recursive: true }))

/** What a successor has. */
function read(body: (notes: MetNotes) => void = () => undefined): MetNote[] {
  const notes = new MetNotes(path, (error) => lost.push(error))
  const found = [...notes.read()]
  body(notes)
  notes.close()
  return found
}

const row = (ino: bigint, text: string): MetNote => ({ ino, row: [ino, text, null, new Uint8Array([1])] })
const name = (ino: bigint, text: string): MetNote => ({ ino, parent: 1n, name: Buffer.from(text) })
const said = (notes: readonly MetNote[]): string[] =>
  notes
    .map((note) => ('row' in note ? `${note.ino} ${note.row[1]}` : `${note.ino} ${Buffer.from(note.name)}`))
    .sort()

describe('P7: what is noted of files that were met without room', () => {
  test('is there for the next, as it was last', () => {
    read((notes) => {
      notes.put(row(5n, 'first'))
      notes.put(name(5n, 'a'))
      notes.put(name(5n, 'b'))
      notes.put(row(5n, 'then '.repeat(100)))
      notes.put(row(6n, 'six'))
      notes.removeRow(6n)
      notes.removeName(1n, Buffer.from('a'))
    })
    expect(said(read((notes) => notes.put(row(5n, 'last'))))).toEqual(
      [`5 ${'then '.repeat(100)}`, '5 b'].sort(),
    )
    expect(said(read())).toEqual(['5 b', '5 last'])
  })

  test('takes no more room however often it changes', () => {
    read((notes) => {
      for (let nth = 0; nth < 1000; nth += 1) notes.put(row(5n, `${nth}`))
    })
    expect(readFileSync(path).length).toBeLessThanOrEqual(512)
    expect(said(read())).toEqual(['5 999'])
  })

  test('is what it was before where a kill has torn it', () => {
    read((notes) => {
      notes.put(row(5n, 'whole'))
      notes.put(row(6n, 'six'))
    })
    const before = readFileSync(path)
    read((notes) => notes.put(row(5n, 'torn')))
    const after = readFileSync(path)
    // The new note is in part there, and the old one was not given up yet.
    for (let length = before.length; length <= after.length; length += 37) {
      writeFileSync(path, Buffer.concat([before, after.subarray(before.length, length)]))
      expect([
        ['5 torn', '6 six'],
        ['5 whole', '6 six'],
      ]).toContainEqual(said(read()))
      expect(said(read((notes) => notes.put(row(7n, 'seven'))))).toHaveLength(2)
      expect(said(read())).toContain('7 seven')
    }
  })

  test('P6: has a bound, and who meets more is told once', () => {
    read((notes) => {
      const long = 'x'.repeat(2 ** 20)
      for (let nth = 0n; nth < 100n; nth += 1n) notes.put(row(nth, long))
    })
    expect(lost).toHaveLength(1)
    expect(readFileSync(path).length).toBeLessThanOrEqual(64 * 2 ** 20)
    expect(read().length).toBeGreaterThan(20)
  })
})
