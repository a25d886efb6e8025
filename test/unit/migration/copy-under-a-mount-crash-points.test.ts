import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { NamespaceLease } from '../../../src/migration/index.ts'
import { StoreSuperseded, StoreUnavailable } from '../../../src/store/errors.ts'
import { Client } from '../../support/rig/client.ts'
import { turns } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'
import { contentOf, putBackCopy, versionsOf } from '../../support/rig/state-copy.ts'
import { ScriptedStore } from '../../support/scripted-store.ts'

// The copy has the epoch of the mount that goes on: only the number of its state says that it is older.

describe('P2: a copy of a state directory that was made under a mount which went on', () => {
  let rig: Rig
  let client: Client

  afterEach(() => rig.stop())

  async function copy(): Promise<void> {
    await rig.catalog.flush()
    cpSync(rig.stateDir, join(rig.root, 'copy'), { recursive: true })
  }

  const putBack = (): Promise<void> => putBackCopy(rig)
  const objects = (): Promise<Record<string, unknown>> => versionsOf(rig)
  const tree = (): Promise<Record<string, string>> => contentOf(client)

  const doubtful = async (): Promise<string[]> =>
    (await rig.verify()).differences.filter(({ kind }) => kind === 'doubtful').map(({ path }) => path)

  async function start(powerCuts = false): Promise<void> {
    rig = await Rig.start({ mode: 'drain', powerCuts })
    client = new Client(rig)
    await client.create('changed', 'first')
    await client.create('kept', 'kept')
    await rig.settle()
    await rig.tell()
  }

  /** What was acknowledged behind the copy, all of it in the store, which is told. */
  async function goOn(): Promise<void> {
    await client.overwrite('changed', 0, 'SECOND')
    await client.mkdir('new')
    await client.create('new/file', 'new')
    await client.unlink('kept')
    await rig.settle()
    await rig.tell()
  }

  test('is in doubt, takes what is newer from the store, and changes nothing there', async () => {
    await start()
    await copy()
    await goOn()
    const before = await objects()
    await putBack()
    expect(await tree()).toMatchObject({ changed: 'SECOND', new: '/', 'new/file': 'new' })
    expect(await doubtful()).toEqual(expect.arrayContaining(['.', 'changed']))
    expect(rig.catalog.doubts.isOlderCopy).toBe(true)
    await rig.reap()
    await turns(2000)
    expect(await objects()).toEqual(before)
    rig.catalog.doubts.accept()
    await rig.restart('mount')
    expect(rig.catalog.doubts.any).toBe(false)
  })

  test('P3: is one from before the first file went from SOURCE', async () => {
    rig = await Rig.start({
      mode: 'mirror',
      fill: (source) => {
        for (const name of ['a', 'b']) writeFileSync(join(source, name), `content of ${name}`)
      },
    })
    client = new Client(rig)
    await rig.migrate()
    await rig.settle()
    await rig.setMode('drain')
    await rig.tell()
    await copy()
    await rig.migrate()
    expect(existsSync(join(rig.source, 'a'))).toBe(false)
    const before = await objects()
    await putBack()
    expect(rig.catalog.doubts.isOlderCopy).toBe(true)
    expect(await tree()).toEqual({ a: 'content of a', b: 'content of b' })
    await turns(2000)
    expect(await objects()).toEqual(before)
  })

  test.each(['worker', 'mount'] as const)(
    'is none that a %s goes on from, nor what a death at migration.lease.telling leaves',
    async (next) => {
      await start()
      await goOn()
      await rig.restart(next)
      await client.overwrite('changed', 0, 'third')
      rig.dieAt('migration.lease.telling')
      void rig.lease.tell(rig.catalog, rig.epoch).catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      await rig.restart('mount')
      expect(rig.catalog.doubts.any).toBe(false)
    },
  )

  test.each(['lost', 'kept'] as const)(
    'is none that a power cut leaves, with what was not synced %s',
    async (unsynced) => {
      await start(true)
      await goOn()
      await client.overwrite('changed', 0, 'third')
      await rig.powerCut(unsynced)
      expect(rig.catalog.doubts.any).toBe(false)
      await client.overwrite('changed', 0, 'fourth')
      rig.dieAt('migration.lease.telling')
      void rig.lease.tell(rig.catalog, rig.epoch).catch(() => undefined)
      await rig.untilDead()
      await rig.powerCut(unsynced)
      expect(rig.catalog.doubts.any).toBe(false)
    },
  )
})

describe('what the store is told of a state', () => {
  let directory: string
  let catalog: Catalog
  let store: ScriptedStore
  let lease: NamespaceLease
  let epoch: number
  const proceed: ScriptedStore['script'] = (_operation, go) => go()

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-state-'))
    catalog = Catalog.open(join(directory, 'catalog.db'), { check: false })
    store = new ScriptedStore()
    lease = new NamespaceLease(store, 'ns')
    epoch = await lease.acquire(catalog, false)
    await lease.tell(catalog, epoch)
  })

  afterEach(async () => {
    await catalog.close()
    rmSync(directory, { recursive: true })
  })

  const change = (): void => catalog.transaction(() => catalog.meta.set('changed', 'yes'))
  const state = async (): Promise<number> => (await lease.read())?.state ?? 0

  test('P6: is nothing, and costs no flush, where nothing has changed', async () => {
    const commits = catalog.state.last
    const asked = store.calls.length
    let flushes = 0
    const flush = catalog.flush.bind(catalog)
    catalog.flush = () => {
      flushes += 1
      return flush()
    }
    await lease.tell(catalog, epoch)
    expect(store.calls.slice(asked)).toEqual(['get'])
    expect([flushes, catalog.state.last]).toEqual([0, commits])
    change()
    await lease.tell(catalog, epoch)
    expect(await state()).toBe(commits + 1)
    expect(flushes).toBe(1)
    // A directory that is about to lose something is told of all the same.
    await lease.tellFirst(catalog, epoch)
    expect(await state()).toBe(commits + 2)
  })

  test('P2: is on the medium before', async () => {
    const flushed: number[] = []
    const flush = catalog.flush.bind(catalog)
    catalog.flush = async () => {
      const { last } = catalog.state
      await flush()
      flushed.push(last)
    }
    store.script = async (operation, go) => {
      if (operation === 'put') expect(flushed.at(-1)).toBe(catalog.state.last)
      await go()
    }
    change()
    await lease.tell(catalog, epoch)
    expect(flushed).toHaveLength(1)
    expect(await state()).toBe(flushed[0])
  })

  test('P4: goes on where an answer was lost, and this mount keeps the namespace', async () => {
    change()
    store.script = async (operation, go) => {
      await go()
      if (operation === 'put') throw new StoreUnavailable('no answer', { outcomeUnknown: true })
    }
    await expect(lease.tell(catalog, epoch)).rejects.toThrow('no answer')
    store.script = proceed
    // It arrives once more behind the look that this one begins with.
    const late = await store.get('meta', 'namespace')
    change()
    await lease.tell(catalog, epoch)
    expect(await state()).toBe(catalog.state.last)
    expect(late?.version.version).toBeLessThan(catalog.state.last)
  })

  test('P4: that comes in between is no other owner, neither for a telling nor for the next mount', async () => {
    const ahead = async (): Promise<void> => {
      const now = await store.get('meta', 'namespace')
      const told = await lease.read()
      if (!now || !told) throw new Error('there is no lease')
      const version = { ...now.version, version: now.version.version + 1 }
      await store.put('meta', 'namespace', {
        ...now,
        version,
        value: Buffer.from(JSON.stringify({ ...told, state: version.version })),
      })
    }
    let comes = true
    store.script = async (operation, go) => {
      if (operation === 'put' && comes) {
        comes = false
        await ahead()
      }
      await go()
    }
    change()
    await lease.tell(catalog, epoch)
    comes = true
    const next = await lease.acquire(catalog, false)
    expect(next).toBeGreaterThan(epoch)
    expect((await lease.read())?.epoch).toBe(next)
    expect(catalog.doubts.any).toBe(false)
  })

  test('P3: is no leave to remove anything where the store has no lease of this mount', async () => {
    const now = await store.get('meta', 'namespace')
    if (!now) throw new Error('there is no lease')
    await store.delete('meta', 'namespace', now.version)
    await expect(lease.tellFirst(catalog, epoch)).rejects.toThrow(StoreUnavailable)
    await store.put('meta', 'namespace', now)
    const other = Catalog.open(join(directory, 'other.db'), { check: false })
    await new NamespaceLease(store, 'ns').acquire(other, true)
    await other.close()
    change()
    await expect(lease.tell(catalog, epoch)).rejects.toThrow(StoreSuperseded)
    await expect(lease.tellFirst(catalog, epoch)).rejects.toThrow(StoreSuperseded)
  })
})
