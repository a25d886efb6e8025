// First: what the product does with SQLite has to find the full disk.
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { rebuildOutOf } from '../../../src/daemon/rebuild-state.ts'
import { recordIdentity } from '../../../src/daemon/state-dir.ts'
import { MadeStore, named } from '../../support/made-store.ts'

const MADE = ['catalog.db', 'mount.json']

let stateDir: string

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'ferryfs-rebuild-'))
})

afterEach(() => rmSync(stateDir, { recursive: true }))

async function rebuild(): Promise<number> {
  const store = new MadeStore()
  await store.lease()
  await store.file({ ino: 9n }, 'f', 'text')
  await store.directory({ ino: 2n }, [named('f', 9n, 'f')])
  await store.root([named('d', 2n), named('lost', 3n)])
  const request = {
    store: 'memory:',
    namespace: 'tree',
    stateDir,
    opTimeout: 1000,
    concurrency: 4,
    log: pino({ level: 'silent' }),
  }
  const run = { onProgress: () => undefined, signal: new AbortController().signal }
  return (await rebuildOutOf(() => Promise.resolve(store.memory), request, run)).files
}

// A test that never found the disk full would prove nothing: `most` is beyond the last write.
test.each([
  ['rebuild.db', 40],
  ['rebuild-survey.db', 40],
])(
  'P5: a disk that is full at any write of %s leaves nothing behind, and with room it is made',
  async (file, most) => {
    const path = join(stateDir, file)
    let failed = 0
    for (let writes = 0; writes < most; writes += 1) {
      fillDisk(path, writes)
      const ended = await rebuild().catch((error: unknown) => error)
      freeDisk(path)
      if (typeof ended === 'number') {
        for (const made of ['catalog.db', 'mount.json']) rmSync(join(stateDir, made))
        continue
      }
      failed += 1
      expect(ended).toMatchObject({ code: 'ENOSPC', message: expect.stringContaining('make room there') })
      expect(readdirSync(stateDir)).toEqual([])
    }
    expect(failed).toBeGreaterThan(5)
    expect(failed).toBeLessThan(most)
    expect(await rebuild()).toBe(1)
    expect(readdirSync(stateDir).sort()).toEqual(MADE)
    // Again, on a disk without room: what was made stays.
    const made = readFileSync(join(stateDir, 'catalog.db'))
    fillDisk(path, 3)
    await expect(rebuild()).rejects.toMatchObject({ code: 'ENOSPC' })
    freeDisk(path)
    expect(readdirSync(stateDir).sort()).toEqual(MADE)
    expect(readFileSync(join(stateDir, 'catalog.db')).equals(made)).toBe(true)
    const catalog = Catalog.open(join(stateDir, 'catalog.db'), { check: true })
    expect(catalog.meta.get('mode')).toBe('store-only')
    await catalog.close()
  },
)

test('P2: a catalog that is there is not touched', async () => {
  const path = join(stateDir, 'catalog.db')
  writeFileSync(path, 'the only one')
  await expect(rebuild()).rejects.toThrow(/never writes into another/)
  expect(readFileSync(path, 'utf8')).toBe('the only one')
  expect(readdirSync(stateDir)).toEqual(['catalog.db'])
})

describe('a catalog that a rebuild has made', () => {
  const path = (name: string): string => join(stateDir, name)

  beforeEach(async () => {
    await rebuild()
  })

  test.each([
    ['as it is', () => undefined],
    ['without mount.json, as an earlier ferryfs that was killed left it', () => rmSync(path('mount.json'))],
    ['beside what a rebuild left that was killed', () => writeFileSync(path('rebuild.db'), 'half')],
  ])('P5: is made again while no mount has used it: %s', async (_, change) => {
    change()
    expect(await rebuild()).toBe(1)
    expect(readdirSync(stateDir).sort()).toEqual(MADE)
  })

  async function open(options: { bulk?: boolean }, change: (catalog: Catalog) => void): Promise<void> {
    const catalog = Catalog.open(path('catalog.db'), { check: false, ...options })
    catalog.transaction(() => change(catalog))
    await catalog.close()
  }

  test.each<readonly [string, () => Promise<void> | void]>([
    ['a daemon has opened it', () => open({}, () => undefined)],
    [
      'a daemon has opened it, and what it had beside it is gone',
      async () => {
        await open({}, () => undefined)
        for (const name of readdirSync(stateDir)) if (!MADE.includes(name)) rmSync(path(name))
      },
    ],
    ['it has seen a SOURCE', () => open({ bulk: true }, ({ meta }) => meta.set('source', 'one'))],
    [
      'it was brought together with one',
      () => open({ bulk: true }, ({ meta }) => meta.set('source-unseen', '')),
    ],
    [
      'the directory has a SOURCE',
      () =>
        recordIdentity(stateDir, {
          source: '/source',
          target: '/target',
          namespace: 'tree',
          store: 'memory:',
        }),
    ],
    ['it is empty', () => writeFileSync(path('catalog.db'), '')],
  ])('P2: is not touched once %s', async (_, change) => {
    await change()
    const before = readFileSync(path('catalog.db'))
    await expect(rebuild()).rejects.toThrow(/never writes into another/)
    expect(readFileSync(path('catalog.db')).equals(before)).toBe(true)
  })
})
