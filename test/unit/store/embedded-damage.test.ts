import { execFileSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import type { KeyValueStore, ObjectToStore } from '../../../src/store/contract.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'
import { StoreCorrupt } from '../../../src/store/errors.ts'
import { EmbeddedDirectory, flipped } from '../../support/embedded-directory.ts'
import { failureOf } from '../../support/store-fixtures.ts'

const options = { url: 'embedded:', log: pino({ level: 'silent' }) }
const LARGE = 100_000

let base: string
let directory: EmbeddedDirectory

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'ferryfs-damage-'))
  directory = new EmbeddedDirectory(join(base, 'store'))
})

afterEach(async () => {
  await rm(base, { recursive: true })
})

function objectOf(key: string, size = 200): ObjectToStore {
  return {
    value: Buffer.alloc(size, `${key} `),
    version: { epoch: 1, version: 7 },
    contentType: 'text/plain',
    metadata: { name: encodeURIComponent(key) },
  }
}

async function withStore<T>(body: (store: KeyValueStore) => Promise<T>, path = directory.path): Promise<T> {
  const store = await EmbeddedStore.open(path, options)
  try {
    return await body(store)
  } finally {
    await store.close()
  }
}

describe('a damaged embedded store', () => {
  test('P1: a value file that is cut, gone or altered is StoreCorrupt, and its neighbours are readable', async () => {
    const damages: Readonly<Record<string, (path: string) => Promise<void>>> = {
      'cut/1': (path) => truncate(path, LARGE - 1),
      'cut/2': (path) => truncate(path, 0),
      'gone/1': (path) => unlink(path),
      'first/1': async (path) => writeFile(path, flipped(await readFile(path), 0)),
      'directory/1': async (path) => {
        await unlink(path)
        await mkdir(path)
      },
      'fifo/1': async (path) => {
        await unlink(path)
        execFileSync('mkfifo', [path])
      },
      'last/1': async (path) => writeFile(path, flipped(await readFile(path), LARGE - 1)),
    }
    await withStore(async (store) => {
      for (const key of [...Object.keys(damages), 'sound/1']) {
        await store.put('chunks', key, objectOf(key, LARGE))
      }
      for (const [key, damage] of Object.entries(damages)) {
        await damage(directory.fileOf('chunks', key) ?? '')
        const failure = await failureOf(store.get('chunks', key))
        expect(failure, key).toBeInstanceOf(StoreCorrupt)
        expect(String(failure)).toContain(key)
        expect((await store.get('chunks', 'sound/1'))?.value.equals(objectOf('sound/1', LARGE).value)).toBe(
          true,
        )
      }
      // Storing the same again is the repair.
      for (const key of Object.keys(damages)) {
        await store.put('chunks', key, objectOf(key, LARGE))
        expect((await store.get('chunks', key))?.value.equals(objectOf(key, LARGE).value)).toBe(true)
      }
    })
    // A directory is nothing that a store has made, and stays.
    expect(await directory.files()).toEqual(directory.referred())
  })

  test.each(['-wal', '-shm', '-witness', '-sums'])(
    'P6: what lies in the place of index.sqlite%s and is no file is refused in a line that names it',
    async (suffix) => {
      await withStore((store) => store.put('files', 'a', objectOf('a')))
      const place = `${directory.index}${suffix}`
      for (const put of [() => mkdir(place), async () => void execFileSync('mkfifo', [place])]) {
        await rm(place, { force: true })
        await put()
        const failure = await failureOf(EmbeddedStore.open(directory.path, options))
        expect(String(failure)).toMatch(/there is a (directory|fifo) at [^\n]*; take that away/)
        expect(String(failure)).toContain(place)
        await rm(place, { recursive: true })
      }
    },
  )

  test('P1: an altered column of a record is StoreCorrupt; a put or a delete replaces the record', async () => {
    const alterations = [
      'epoch = epoch + 1',
      'version = version - 1',
      'version = 9007199254740993',
      "version = 'x'",
      "content_type = 'text/html'",
      `metadata = '{"name":"other"}'`,
      "metadata = 'no JSON'",
      'length = length + 1',
      'body = body + 1',
      'head = head + 1',
      'file = 3',
      'value = NULL',
      "value = x'00'",
      'value = 17',
    ]
    await withStore(async (store) => {
      for (const [at, alteration] of alterations.entries()) {
        const key = `record ${at}`
        await store.put('files', key, objectOf(key))
        await store.put('files', `${key} beside`, objectOf(key))
        directory.withIndex((index) => index.exec(`UPDATE record SET ${alteration} WHERE key = '${key}'`))
        expect(await failureOf(store.get('files', key)), alteration).toBeInstanceOf(StoreCorrupt)
        expect(await store.get('files', `${key} beside`)).toEqual(objectOf(key))
        if (at % 2 === 0) {
          await store.put('files', key, objectOf(key))
          expect(await store.get('files', key)).toEqual(objectOf(key))
        } else {
          await store.delete('files', key, { epoch: 1, version: 7 })
          expect(await store.get('files', key)).toBeUndefined()
        }
      }
    })
  })

  test('P2: an index that is an older copy takes no value file of the newer one for its own', async () => {
    await withStore((store) => store.put('chunks', 'kept', objectOf('kept', LARGE)))
    const older = await readFile(directory.index)
    await withStore((store) => store.put('chunks', 'newer', objectOf('newer', LARGE)))
    expect((await readFile(directory.index)).equals(older)).toBe(false)
    const path = (await directory.files()).at(-1) ?? ''
    const value = await readFile(path)
    await writeFile(directory.index, older)
    await withStore(async (store) => {
      expect(store.capabilities.damage).toMatch(/^the index .*index.sqlite of the store is damaged: /)
      await store.put('chunks', 'since', objectOf('since', LARGE))
      expect((await store.get('chunks', 'since'))?.value).toEqual(objectOf('since', LARGE).value)
      expect(await failureOf(store.get('chunks', 'newer'))).toBeInstanceOf(StoreCorrupt)
    })
    expect(await readFile(path)).toEqual(value)
  })

  test('P1: a record under another key is not taken for that key’s', async () => {
    await withStore(async (store) => {
      await store.put('files', 'a', objectOf('a'))
      directory.withIndex((index) => index.exec("UPDATE record SET key = 'b' WHERE key = 'a'"))
      expect(await failureOf(store.get('files', 'b'))).toBeInstanceOf(StoreCorrupt)
    })
  })

  test('P1: any flipped byte of the index gives an error or the truth, never another content', async () => {
    const keys = Array.from({ length: 60 }, (_, at) => `directory/file-${at}`)
    await withStore(async (store) => {
      for (const key of keys) await store.put('files', key, objectOf(key, 700))
    })
    const sound = await readFile(directory.index)
    const damaged = join(base, 'damaged')
    await mkdir(damaged)
    await cp(directory.path, damaged, { recursive: true })
    await fc.assert(
      fc.asyncProperty(fc.nat(sound.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const bytes = Buffer.from(sound)
        bytes[at] = (bytes[at] ?? 0) ^ mask
        await writeFile(join(damaged, 'index.sqlite'), bytes)
        const store = await EmbeddedStore.open(damaged, options).catch((error: unknown) => error)
        if (!(store instanceof EmbeddedStore)) {
          expect(store).toBeInstanceOf(UsageError)
          return
        }
        try {
          const wrong: string[] = []
          for (const key of keys) {
            const expected = objectOf(key, 700)
            const found = await store
              .get('files', key, { expect: expected.version })
              .catch((error: unknown) => error)
            if (!(found instanceof StoreCorrupt) && !isDeepStrictEqual(found, expected)) wrong.push(key)
          }
          expect(wrong, `byte ${at} ^ ${mask}`).toEqual([])
        } finally {
          await store.close()
        }
      }),
      { numRuns: 400 },
    )
  })

  test('P1: a key damaged in the index does not make its neighbours absent', async () => {
    const keys = Array.from({ length: 15 }, (_, at) => `key-${String.fromCharCode(97 + at)}`)
    await withStore(async (store) => {
      for (const key of keys) await store.put('files', key, objectOf(key, 50))
    })
    const sound = await readFile(directory.index)
    // The key stands twice: in the record and in the index of keys. Damage each, and both to another order.
    const target = Buffer.from('key-h')
    let places = 0
    for (let at = sound.indexOf(target); at >= 0; at = sound.indexOf(target, at + 1)) {
      for (const letter of ['a', 'z', '~']) {
        places += 1
        const bytes = Buffer.from(sound)
        bytes.write(letter, at + 4)
        await writeFile(directory.index, bytes)
        await withStore(async (store) => {
          for (const key of keys) {
            const found = await store.get('files', key).catch((error: unknown) => error)
            if (found instanceof StoreCorrupt) continue
            expect(found, `${key} with key-${letter} at ${at}`).toEqual(objectOf(key, 50))
          }
        })
      }
    }
    expect(places).toBeGreaterThanOrEqual(6)
  })

  test('an index that is no index is refused in one clear line', async () => {
    await withStore((store) => store.put('files', 'a', objectOf('a')))
    const sound = await readFile(directory.index)
    const foreign = join(base, 'foreign.sqlite')
    const other = new DatabaseSync(foreign)
    other.exec('CREATE TABLE t (x); PRAGMA application_id = 5')
    other.close()
    const newer = join(base, 'newer.sqlite')
    await writeFile(newer, sound)
    const upgraded = new DatabaseSync(newer)
    upgraded.exec('PRAGMA user_version = 99')
    upgraded.close()
    const damages = {
      'text instead': Buffer.from('this is no database, it is a text that somebody put here'.repeat(100)),
      'cut off': sound.subarray(0, 5000),
      'header overwritten': Buffer.concat([Buffer.alloc(100), sound.subarray(100)]),
      'of another program': await readFile(foreign),
      'of a newer ferryfs': await readFile(newer),
    }
    for (const [what, bytes] of Object.entries(damages)) {
      await writeFile(directory.index, bytes)
      const failure = await failureOf(EmbeddedStore.open(directory.path, options))
      expect(failure, what).toBeInstanceOf(UsageError)
      expect(String(failure)).toContain(directory.path)
      expect(String(failure)).not.toContain('\n')
      // Refused, not repaired: the bytes are the operator's to look at.
      if (what !== 'of another program')
        expect((await readFile(directory.index)).equals(bytes), what).toBe(true)
    }
    await writeFile(directory.index, sound)
    expect(await withStore((store) => store.get('files', 'a'))).toEqual(objectOf('a'))
  })

  test('P2: a missing index beside values is refused: it would be an empty store', async () => {
    await withStore((store) => store.put('chunks', 'a', objectOf('a', LARGE)))
    const sound = await readFile(directory.index)
    await unlink(directory.index)
    const failure = await failureOf(EmbeddedStore.open(directory.path, options))
    expect(failure).toBeInstanceOf(UsageError)
    expect(String(failure)).toContain('missing')
    await writeFile(directory.index, sound)
    expect((await withStore((store) => store.get('chunks', 'a')))?.value.length).toBe(LARGE)
  })
})
