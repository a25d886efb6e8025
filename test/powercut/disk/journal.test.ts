import { describe, expect, test } from 'vitest'
import type { Event } from '../recording/events.ts'
import { contentOf, newFile, PAGE, type VolumeImage } from './image.ts'
import { EVERYTHING, Journal, type Writeback } from './journal.ts'

const ROOT = 1
const FILE = 2
const state = (mode: number) => ({
  mode,
  uid: 0,
  gid: 0,
  rdev: 0,
  atimeNs: 0n,
  mtimeNs: 0n,
  ctimeNs: 0n,
  btimeNs: 0n,
})
const NOTHING: Writeback = { upTo: (_file, _page, synced) => synced, sizeFirst: () => false }
const onlyPage = (wanted: number): Writeback => ({
  upTo: (_file, page, synced) => (page === wanted ? Number.POSITIVE_INFINITY : synced),
  sizeFirst: () => false,
})

/** A volume with a directory and, if there is content, one file `old` in it. */
function volume(content?: Buffer): VolumeImage {
  const root = newFile(ROOT, state(0o40755))
  const files = new Map([[ROOT, root]])
  if (content) {
    const file = newFile(FILE, state(0o100644))
    file.size = content.length
    for (let page = 0; page * PAGE < content.length; page += 1) {
      const bytes = Buffer.alloc(PAGE)
      content.copy(bytes, 0, page * PAGE)
      file.pages.set(page, bytes)
    }
    files.set(FILE, file)
    root.children.set('old', FILE)
  }
  return { root: ROOT, files }
}

type Part = Partial<Event> & Pick<Event, 'kind'>

function journal(base: VolumeImage, ...parts: Part[]): Journal {
  const events = parts.map((part, seq): Event => {
    const named = ['create', 'link', 'unlink', 'rename'].includes(part.kind)
    return {
      ino: FILE,
      parent: named ? ROOT : 0,
      parent2: part.kind === 'rename' ? ROOT : 0,
      other: 0,
      name: '',
      name2: '',
      state: { ...state(0o100644), mtimeNs: BigInt(seq + 1) },
      parentTimeNs: BigInt(seq + 1),
      otherTimeNs: BigInt(seq + 1),
      a: 0,
      b: 0,
      c: 0,
      data: Buffer.alloc(0),
      ...part,
      seq,
    }
  })
  return new Journal(base, events)
}

const write = (a: number, size: number, byte: number, ino = FILE): Part => ({
  kind: 'write',
  ino,
  a,
  data: Buffer.alloc(size, byte),
})
const names = (image: VolumeImage): string[] => [...(image.files.get(ROOT)?.children.keys() ?? [])].sort()
const content = (image: VolumeImage, ino = FILE): Buffer => {
  const file = image.files.get(ino)
  return file ? contentOf(file) : Buffer.from('no such file')
}

describe('a page a part of which was made zeros', () => {
  const body = Buffer.alloc(2 * PAGE, 1)

  test.each([
    ['punched', { kind: 'fallocate', a: 3, b: 0, c: 10 } as const],
    ['cut', { kind: 'truncate', a: 200 } as const],
  ])('has what had been written to it before, once the journal has that it was %s', (_, zeroed) => {
    const changed = journal(volume(body), write(100, 10, 2), write(PAGE, 10, 2), zeroed)
    const image = content(changed.imageAt(2, 2, NOTHING))
    expect(image.subarray(100, 110)).toEqual(Buffer.alloc(10, 2))
    if (image.length > PAGE) expect(image[PAGE], 'another page').toBe(1)
    expect(content(changed.imageAt(2, 1, NOTHING))[100], 'before that').toBe(1)
  })
})

test('what is written to a hole and synced is on the disk, with the block that it got', () => {
  const punched = journal(
    volume(Buffer.alloc(2 * PAGE, 1)),
    { kind: 'fallocate', a: 3, b: 0, c: PAGE + 10 },
    write(0, 10, 2),
    { kind: 'fdatasync' },
  )
  expect(punched.forcedAt(2)).toBe(1)
  expect(content(punched.imageAt(2, punched.forcedAt(2), NOTHING)).subarray(0, 10)).toEqual(
    Buffer.alloc(10, 2),
  )
})

describe('the journal is a prefix', () => {
  const made = journal(
    volume(),
    { kind: 'create', ino: 10, name: 'a' },
    { kind: 'create', ino: 11, name: 'b' },
    { kind: 'rename', ino: 10, name: 'a', name2: 'c' },
    { kind: 'fsync', ino: 11 },
    { kind: 'unlink', ino: 11, name: 'b' },
  )

  test('names are there up to the commit and not beyond', () => {
    expect(names(made.imageAt(4, -1, EVERYTHING))).toEqual([])
    expect(names(made.imageAt(4, 0, EVERYTHING))).toEqual(['a'])
    expect(names(made.imageAt(4, 2, EVERYTHING))).toEqual(['b', 'c'])
    expect(names(made.imageAt(4, 4, EVERYTHING))).toEqual(['c'])
  })

  test('fsync of a file brings what came before its own last change, and nothing after it', () => {
    expect(made.forcedAt(2)).toBe(-1)
    expect(made.forcedAt(3)).toBe(1)
    expect(made.forcedAt(4)).toBe(1)
  })

  test('fsync of a directory brings the last change in it', () => {
    const synced = journal(
      volume(),
      { kind: 'create', ino: 10, name: 'a' },
      { kind: 'rename', ino: 10, name: 'a', name2: 'b' },
      { kind: 'fsync', ino: ROOT },
    )
    expect(synced.forcedAt(2)).toBe(1)
  })

  test('fdatasync brings a new size, and no change of times or attributes', () => {
    const changed = journal(
      volume(Buffer.alloc(PAGE, 1)),
      { kind: 'attributes' },
      write(0, 10, 2),
      { kind: 'fdatasync' },
      write(PAGE, 10, 3),
      { kind: 'fdatasync' },
    )
    expect(changed.forcedAt(2)).toBe(-1)
    expect(changed.forcedAt(4)).toBe(3)
    expect(content(changed.imageAt(2, -1, NOTHING)).subarray(0, 10)).toEqual(Buffer.alloc(10, 2))
  })

  test('syncfs brings everything', () => {
    const all = journal(volume(), { kind: 'create', ino: 10, name: 'a' }, write(0, 5, 1, 10), {
      kind: 'syncfs',
      ino: ROOT,
    })
    expect(all.forcedAt(2)).toBe(2)
    expect(content(all.imageAt(2, 2, NOTHING), 10)).toEqual(Buffer.alloc(5, 1))
  })
})

describe('data is written back page by page', () => {
  const old = Buffer.alloc(3 * PAGE, 1)

  test('a write over several pages is torn between them, never within one', () => {
    const torn = journal(volume(old), write(100, 2 * PAGE, 2)).imageAt(0, 0, onlyPage(1))
    expect(content(torn).subarray(0, PAGE)).toEqual(Buffer.alloc(PAGE, 1))
    expect(content(torn).subarray(PAGE, 2 * PAGE)).toEqual(Buffer.alloc(PAGE, 2))
    expect(content(torn).subarray(2 * PAGE)).toEqual(Buffer.alloc(PAGE, 1))
  })

  test('old blocks take new bytes without the journal, and keep old ones with it', () => {
    const over = journal(volume(old), write(0, 10, 2))
    const without = over.imageAt(0, -1, EVERYTHING)
    expect(content(without).subarray(0, 10)).toEqual(Buffer.alloc(10, 2))
    expect(without.files.get(FILE)?.state.mtimeNs).toBe(0n)
    const only = over.imageAt(0, 0, NOTHING)
    expect(content(only)).toEqual(old)
    expect(only.files.get(FILE)?.state.mtimeNs).toBe(1n)
  })

  test('new blocks come with the journal; a page that is missing there reads as zeros', () => {
    const longer = journal(volume(old), write(3 * PAGE, 2 * PAGE, 2))
    expect(content(longer.imageAt(0, -1, EVERYTHING))).toEqual(old)
    expect(content(longer.imageAt(0, 0, NOTHING))).toEqual(old)
    const torn = content(longer.imageAt(0, 0, onlyPage(4)))
    expect(torn.length).toBe(5 * PAGE)
    expect(torn.subarray(3 * PAGE, 4 * PAGE)).toEqual(Buffer.alloc(PAGE))
    expect(torn.subarray(4 * PAGE)).toEqual(Buffer.alloc(PAGE, 2))
  })

  test('what was synced is there, whatever else is not', () => {
    const synced = journal(volume(old), write(0, 3 * PAGE, 2), { kind: 'fdatasync' }, write(0, PAGE, 3))
    expect(content(synced.imageAt(2, synced.forcedAt(2), NOTHING))).toEqual(Buffer.alloc(3 * PAGE, 2))
  })

  test('what was cut off comes back whole without the journal, and nothing that was written there later', () => {
    const cut = journal(volume(old), { kind: 'truncate', a: 0 }, write(0, 10, 2))
    expect(content(cut.imageAt(1, -1, EVERYTHING))).toEqual(old)
    expect(content(cut.imageAt(1, 0, EVERYTHING))).toEqual(Buffer.alloc(0))
    expect(content(cut.imageAt(1, 1, EVERYTHING))).toEqual(Buffer.alloc(10, 2))
  })

  test('a rename onto a name that is taken brings the data along', () => {
    const replaced = journal(volume(old), { kind: 'create', ino: 10, name: 'new' }, write(0, PAGE, 2, 10), {
      kind: 'rename',
      ino: 10,
      name: 'new',
      name2: 'old',
      other: FILE,
    })
    const image = replaced.imageAt(2, 2, NOTHING)
    expect(names(image)).toEqual(['old'])
    expect(content(image, 10)).toEqual(Buffer.alloc(PAGE, 2))
    expect(content(replaced.imageAt(2, 1, NOTHING), 10)).toEqual(Buffer.alloc(0))
  })
})
