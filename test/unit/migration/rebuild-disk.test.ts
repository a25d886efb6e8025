// First: what the product does with SQLite has to find the full disk.
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { rebuildOutOf } from '../../../src/daemon/rebuild-state.ts'
import { MadeStore, named } from '../../support/made-store.ts'

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
        rmSync(join(stateDir, 'catalog.db'))
        continue
      }
      failed += 1
      expect(ended).toMatchObject({ code: 'ENOSPC', message: expect.stringContaining('make room there') })
      expect(readdirSync(stateDir)).toEqual([])
    }
    expect(failed).toBeGreaterThan(5)
    expect(failed).toBeLessThan(most)
    expect(await rebuild()).toBe(1)
    expect(readdirSync(stateDir)).toEqual(['catalog.db'])
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
