import { existsSync, globSync, lstatSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { KeyValueStore, ObjectToStore } from '../../../src/store/contract.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'
import { StoreCorrupt } from '../../../src/store/errors.ts'
import { EmbeddedDirectory, flipped } from '../../support/embedded-directory.ts'

const LARGE = 100_000
const options = { url: 'embedded:', log: pino({ level: 'silent' }) }
const OLDER =
  /^the index .*index\.sqlite of the store is damaged: it is an older copy.*may be older than what was stored/

let base: string
let directory: EmbeddedDirectory

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'ferryfs-older-'))
  directory = new EmbeddedDirectory(join(base, 'store'))
})

afterEach(async () => {
  await rm(base, { recursive: true })
})

const objectOf = (text: string, size = 200, version = 7): ObjectToStore => ({
  value: Buffer.alloc(size, text),
  version: { epoch: 1, version },
  contentType: 'text/plain',
  metadata: {},
})

async function withStore<T>(
  body: (store: KeyValueStore) => Promise<T>,
  open: typeof EmbeddedStore.open = EmbeddedStore.open,
): Promise<T> {
  const store = await open(directory.path, options)
  try {
    return await body(store)
  } finally {
    await store.close()
  }
}

const damage = (open?: typeof EmbeddedStore.open): Promise<string | undefined> =>
  withStore(async (store) => store.capabilities.damage, open)

const number = (): string => join(directory.path, 'state-number')

/** Copies the index with all that is beside it, as a backup has it. */
async function backUp(): Promise<() => Promise<void>> {
  const copy = await mkdtemp(join(base, 'copy-'))
  const all = (): string[] => globSync(`${directory.index}*`)
  for (const path of all()) await copyFile(path, join(copy, basename(path)))
  return async () => {
    for (const path of all()) await rm(path)
    for (const path of globSync(join(copy, '*'))) await copyFile(path, join(directory.path, basename(path)))
  }
}

describe('an index that came back from a backup with all that is beside it', () => {
  test('P1, P2: is found out by the values that were stored since, and they stay', async () => {
    await withStore((store) => store.put('chunks', 'old', objectOf('old', LARGE)))
    const putBack = await backUp()
    await withStore((store) => store.put('chunks', 'new', objectOf('new', LARGE)))
    const values = await directory.files()
    await putBack()
    // Also where the file with the number went, or was never made.
    await rm(number())
    for (const open of [EmbeddedStore.openToRead, EmbeddedStore.open, EmbeddedStore.open])
      expect(await damage(open)).toMatch(/^the index .* of the store is damaged: /)
    await withStore(async (store) => {
      await expect(store.get('chunks', 'new')).rejects.toBeInstanceOf(StoreCorrupt)
      expect((await store.get('chunks', 'old'))?.value).toEqual(objectOf('old', LARGE).value)
      await store.put('chunks', 'since', objectOf('since', LARGE))
    })
    expect(await damage()).toBeDefined()
    expect(await directory.files()).toEqual(expect.arrayContaining(values))
    expect(await readFile(values.at(-1) ?? '')).toEqual(objectOf('new', LARGE).value)
  })

  test.each([
    ['put', (store: KeyValueStore) => store.put('files', 'a', objectOf('second', 200, 8))],
    ['removed', (store: KeyValueStore) => store.delete('files', 'a', { epoch: 1, version: 8 })],
  ])('P1, P2: is found out where only small objects were %s since', async (_, change) => {
    await withStore((store) => store.put('files', 'a', objectOf('first')))
    const putBack = await backUp()
    await withStore(change)
    expect(await damage()).toBeUndefined()
    await putBack()
    for (const open of [EmbeddedStore.openToRead, EmbeddedStore.open, EmbeddedStore.open])
      expect(await damage(open)).toMatch(OLDER)
    // What is stored in it does not make it the newest.
    await withStore((store) => store.put('files', 'b', objectOf('since')))
    expect(await damage()).toMatch(OLDER)
  })

  test('P2: is found out where the copy was made while the store was open, and the same run went on', async () => {
    let putBack = async (): Promise<void> => undefined
    await withStore(async (store) => {
      await store.put('files', 'a', objectOf('first'))
      putBack = await backUp()
      await store.put('files', 'a', objectOf('second', 200, 8))
    })
    await putBack()
    expect(await damage()).toMatch(OLDER)
  })

  test('P2: is found out where it is of an earlier ferryfs, that had no such number', async () => {
    await withStore((store) => store.put('files', 'a', objectOf('first')))
    directory.withIndex((index) => index.exec('DROP TABLE state_number'))
    await rm(number())
    expect(await damage()).toBeUndefined()
    expect(existsSync(number())).toBe(false)
    const putBack = await backUp()
    await withStore((store) => store.put('files', 'a', objectOf('second', 200, 8)))
    expect(await damage()).toBeUndefined()
    await putBack()
    expect(await damage()).toMatch(OLDER)
  })

  test('P6: is no older copy where nothing was changed since, and where all of the store came back', async () => {
    await withStore((store) => store.put('chunks', 'a', objectOf('first', LARGE)))
    const putBack = await backUp()
    await withStore((store) => store.get('chunks', 'a'))
    await putBack()
    for (const open of [EmbeddedStore.openToRead, EmbeddedStore.open])
      expect(await damage(open)).toBeUndefined()
  })
})

describe('the number of the state', () => {
  test('P6: costs a run two writes of it, whatever is stored', async () => {
    await withStore((store) => store.put('files', 'a', objectOf('a')))
    await withStore(async (store) => {
      await store.put('files', 'b', objectOf('b'))
      const { ino } = lstatSync(number())
      for (let at = 0; at < 20; at += 1) await store.put('files', `c${at}`, objectOf('c'))
      await store.delete('files', 'b', { epoch: 1, version: 8 })
      expect(lstatSync(number()).ino).toBe(ino)
    })
    expect(JSON.parse(await readFile(number(), 'utf8'))).toMatchObject({ state: 4 })
  })

  test('P6: says with one flipped bit what it said; with more it is doubt, until somebody removes it', async () => {
    await withStore((store) => store.put('files', 'a', objectOf('a')))
    const whole = await readFile(number())
    await writeFile(number(), flipped(Buffer.from(whole), whole.indexOf('2')))
    expect(await damage()).toBeUndefined()
    for (const put of [
      () => writeFile(number(), whole.subarray(0, -9)),
      () => writeFile(number(), ''),
      () => mkdir(number()),
    ]) {
      await rm(number(), { recursive: true })
      await put()
      expect(await damage()).toMatch(/nobody can tell whether .*state-number cannot be read: .*remove it/)
      await withStore((store) => store.put('files', 'b', objectOf('b')))
      expect(await damage()).toMatch(/nobody can tell/)
    }
    await rm(number(), { recursive: true })
    expect(await damage()).toBeUndefined()
  })

  test('P6: that cannot be written keeps nobody from storing', async () => {
    await withStore((store) => store.put('files', 'a', objectOf('a')))
    await mkdir(`${number()}.new`)
    await withStore((store) => store.put('files', 'b', objectOf('b')))
    expect(await damage()).toBeUndefined()
    await rm(`${number()}.new`, { recursive: true })
    const putBack = await backUp()
    await withStore((store) => store.put('files', 'b', objectOf('second', 200, 8)))
    await putBack()
    expect(await damage()).toMatch(OLDER)
  })
})
