import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { onFaultPoint } from '../../../src/base/faults.ts'
import { Catalog } from '../../../src/catalog/index.ts'
import { NamespaceLease } from '../../../src/migration/index.ts'
import { StoreSuperseded, StoreUnavailable } from '../../../src/store/errors.ts'
import { Client } from '../../support/rig/client.ts'
import { turns } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'
import { contentOf, putBackCopy, versionsOf } from '../../support/rig/state-copy.ts'
import { ScriptedStore } from '../../support/scripted-store.ts'

// A state directory is put back to what it was: a reverted snapshot, a disk from a backup. The store went on.

describe('P2: an older copy of a state directory that is put back', () => {
  let rig: Rig
  let client: Client

  afterEach(() => rig.stop())

  async function start(mode: 'mirror' | 'drain'): Promise<void> {
    rig = await Rig.start({ mode })
    client = new Client(rig)
    await client.mkdir('d')
    await client.create('d/changed', 'first')
    await client.create('kept', 'kept')
    await rig.settle()
    await rig.restart('mount')
    await rig.catalog.flush()
    cpSync(rig.stateDir, join(rig.root, 'copy'), { recursive: true })
    await rig.restart('mount')
  }

  /** What was acknowledged behind the copy, all of it in the store. */
  async function goOn(): Promise<void> {
    await client.overwrite('d/changed', 0, 'SECOND')
    await client.mkdir('new')
    await client.create('new/file', 'new')
    await rig.settle()
  }

  const putBack = (): Promise<void> => putBackCopy(rig)
  const objects = (): Promise<Record<string, unknown>> => versionsOf(rig)
  const tree = (): Promise<Record<string, string>> => contentOf(client)

  const NOW = { d: '/', 'd/changed': 'SECOND', kept: 'kept', new: '/', 'new/file': 'new' }

  const doubtful = async (): Promise<string[]> =>
    (await rig.verify()).differences.filter(({ kind }) => kind === 'doubtful').map(({ path }) => path)

  test('takes what is newer from the store, changes nothing there, and is in doubt until that is accepted', async () => {
    await start('drain')
    await goOn()
    const before = await objects()
    await putBack()
    expect(await tree()).toEqual(NOW)
    expect(await doubtful()).toEqual(expect.arrayContaining(['.', 'kept']))
    await rig.restart('mount')
    await rig.reap()
    await turns(2000)
    expect(await doubtful()).toContain('.')
    expect(rig.catalog.doubts.losses()).toHaveLength(1)
    expect(await objects()).toEqual(before)
    rig.catalog.doubts.accept()
    await client.overwrite('d/changed', 0, 'third')
    await client.create('later', 'later')
    await rig.settle()
    await rig.restart('mount')
    expect(await tree()).toEqual({ ...NOW, 'd/changed': 'thirdD', later: 'later' })
    expect((await rig.verify()).differences).toEqual([])
  })

  test('from when the volume had the truth: what it has is put over nothing newer, by a migration either', async () => {
    await start('mirror')
    await rig.setMode('drain')
    await goOn()
    const before = await objects()
    await putBack()
    await rig.migrate()
    await client.create('past', 'past')
    await turns(2000)
    expect(await objects()).toMatchObject(before)
    expect(await doubtful()).toContain('.')
  })

  test.each(['mirror', 'prefer-store'] as const)(
    'from before drain was given up for %s again: the volume is right, old names may be back, and the mode is told',
    async (mode) => {
      rig = await Rig.start({
        mode: 'mirror',
        fill: (source) => {
          mkdirSync(join(source, 'd'))
          for (const name of ['d/changed', 'kept', 'late', 'moved', 'removed'])
            writeFileSync(join(source, name), name)
        },
      })
      client = new Client(rig)
      await rig.migrate()
      await rig.settle()
      await rig.setMode('drain')
      await rig.restart('mount')
      await rig.catalog.flush()
      cpSync(rig.stateDir, join(rig.root, 'copy'), { recursive: true })
      await rig.restart('mount')
      await rig.setMode(mode)
      await client.overwrite('d/changed', 0, 'SECOND')
      await client.create('new', 'new')
      await client.rename('moved', 'd/moved')
      await client.unlink('removed')
      await rig.settle()
      // And what the store was never told of.
      rig.world.inject({ fault: 'unavailable', on: ['put'] })
      await client.overwrite('d/changed', 0, 'THIRD!')
      await client.create('newest', 'newest')
      await client.rename('late', 'd/late')
      rig.die()
      rig.world.heal()
      const before = await objects()
      await putBack()
      expect(rig.modes.mode).toBe('drain')
      const shown = await tree()
      expect(shown).toMatchObject({
        'd/changed': 'THIRD!ged',
        'd/late': 'late',
        'd/moved': 'moved',
        kept: 'kept',
        new: 'new',
        newest: 'newest',
      })
      // What may have been removed or moved since is not for an older copy to tell.
      const back = Object.keys(shown).filter(
        (path) => !/^(d|d\/changed|d\/late|d\/moved|kept|new|newest)$/.test(path),
      )
      expect(['late', 'moved', 'removed']).toEqual(expect.arrayContaining(back))
      expect(await doubtful()).toEqual(expect.arrayContaining(['.', ...back]))
      expect(rig.catalog.doubts.losses()[0]?.detail).toMatch(/mode drain is that of the copy/)
      await rig.reap()
      await turns(2000)
      // What is new to the copy has keys that nobody has had.
      expect(await objects()).toMatchObject(before)
      for (const path of ['d/changed', 'd/late', 'd/moved', 'kept', 'new', 'newest'])
        expect(existsSync(join(rig.source, path)), path).toBe(true)
      expect(back.length).toBeGreaterThan(0)
      await expect(rig.setMode(mode)).rejects.toThrow(/no longer on the legacy volume/)
      rig.catalog.doubts.accept()
      await rig.migrate()
      await rig.settle()
      expect((await rig.verify()).differences).toEqual([])
      expect(await tree()).toEqual(shown)
    },
  )

  test('is known by the next mount where one dies at migration.lease.claimed', async () => {
    await start('drain')
    await goOn()
    rig.die()
    rig.dieAt('migration.lease.claimed')
    await expect(putBack()).rejects.toThrow('the daemon is dead')
    await rig.restart('mount')
    expect(await tree()).toEqual(NOW)
    expect(rig.catalog.doubts.losses()).toHaveLength(1)
  })

  test.each([
    ['migration.lease.claimed', 1],
    ['content.staging.kept', 1],
    ['content.staging.kept', 2],
  ])('has what is staged copied by the next mount where one dies at %s (%i)', async (point, nth) => {
    await start('drain')
    rig.world.inject({ fault: 'unavailable', on: ['put'] })
    const staged = await client.create('staged', 'staged before the copy')
    await client.create('another', 'another')
    await rig.catalog.flush()
    rmSync(join(rig.root, 'copy'), { recursive: true })
    cpSync(rig.stateDir, join(rig.root, 'copy'), { recursive: true })
    rig.world.heal()
    await rig.restart('mount')
    await goOn()
    rig.die()
    rig.dieAt(point, nth)
    // Bytes that the older catalog does not know of: it would cut them off.
    const putBackLonger = rig.mountDamaged((stateDir) => {
      rmSync(stateDir, { recursive: true })
      cpSync(join(rig.root, 'copy'), stateDir, { recursive: true })
      const staging = join(stateDir, 'staging')
      for (const name of readdirSync(staging)) appendFileSync(join(staging, name), ', and more')
    })
    await expect(putBackLonger).rejects.toThrow('the daemon is dead')
    await rig.restart('mount')
    expect(rig.catalog.hasJustLost).toBe(true)
    const kept = join(rig.stateDir, 'lost')
    expect(
      readdirSync(kept)
        .map((name) => readFileSync(join(kept, name), 'utf8'))
        .sort(),
    ).toEqual(['another, and more', 'staged before the copy, and more'])
    expect(rig.catalog.get(staged)).toBeDefined()
    await rig.restart('mount')
    expect(rig.catalog.hasJustLost).toBe(false)
    expect(readdirSync(kept)).toHaveLength(2)
  })

  test('is none where a mount has died at migration.lease.claimed: no false alarm', async () => {
    await start('drain')
    await goOn()
    rig.die()
    rig.dieAt('migration.lease.claimed')
    await expect(rig.restart('mount')).rejects.toThrow('the daemon is dead')
    await rig.restart('mount')
    expect(rig.catalog.doubts.any).toBe(false)
  })
})

describe('P2: a mount without the store', () => {
  let directory: string
  let path: string
  let catalog: Catalog
  let store: ScriptedStore
  let lease: NamespaceLease
  const away = (): Promise<never> => Promise.reject(new StoreUnavailable('away'))
  const back: ScriptedStore['script'] = (_operation, proceed) => proceed()

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-older-'))
    path = join(directory, 'catalog.db')
    catalog = Catalog.open(path, { check: false })
    store = new ScriptedStore()
    lease = new NamespaceLease(store, 'ns')
  })

  afterEach(async () => {
    onFaultPoint(undefined)
    await catalog.close()
    rmSync(directory, { recursive: true })
  })

  /** The catalog as it is now, put back after the store was told of more epochs by it. */
  async function older(): Promise<void> {
    await lease.take(catalog)
    await catalog.close()
    const copy = join(directory, 'copy.db')
    cpSync(path, copy)
    catalog = Catalog.open(path, { check: false })
    await lease.take(catalog)
    await lease.take(catalog)
    await catalog.close()
    path = copy
    catalog = Catalog.open(path, { check: false })
  }

  test('of an older copy is told when the store is back, and the next one notes it: what was made in between stays', async () => {
    await older()
    store.script = away
    const before = catalog.numbers.upcomingGeneration
    const { epoch, claimed } = await lease.take(catalog)
    expect(claimed).toBe(false)
    expect(catalog.numbers.upcomingGeneration - before).toBeGreaterThan(2 ** 29)
    const made = catalog.transaction(() => catalog.numbers.nextGeneration())
    expect(catalog.doubts.mayLackKeys).toBe(true)
    store.script = back
    const told = (await lease.read())?.epoch
    await expect(lease.claim(catalog, epoch)).rejects.toThrow(StoreSuperseded)
    await expect(lease.claim(catalog, epoch)).rejects.toThrow(/older copy/)
    expect((await lease.read())?.epoch).toBe(told)
    const next = await lease.take(catalog)
    expect(next.epoch).toBeGreaterThan(Math.max(told ?? 0, epoch))
    expect(catalog.doubts.losses()).toHaveLength(1)
    expect(catalog.hasJustLost).toBe(true)
    expect(catalog.doubts.firstGenerationAfter).toBeLessThanOrEqual(made)
    expect(catalog.doubts.isOlderCopy).toBe(true)
    catalog.doubts.accept()
    await lease.take(catalog)
    expect(catalog.doubts.any || catalog.doubts.isOlderCopy || catalog.doubts.mayLackKeys).toBe(false)
  })

  test('no store is told of an epoch that a power cut may take from the catalog', async () => {
    const flushed: string[] = []
    const flush = catalog.flush.bind(catalog)
    catalog.flush = async () => {
      const told = catalog.meta.get('told-epoch') ?? ''
      await flush()
      flushed.push(told)
    }
    const onMedium: unknown[] = []
    store.script = async (operation, proceed) => {
      if (operation === 'put') onMedium.push(flushed.at(-1))
      await proceed()
    }
    const first = await lease.take(catalog)
    store.script = away
    const { epoch } = await lease.take(catalog)
    store.script = async (operation, proceed) => {
      if (operation === 'put') onMedium.push(flushed.at(-1))
      await proceed()
    }
    await lease.claim(catalog, epoch)
    expect(onMedium).toEqual([String(first.epoch), String(epoch)])
  })

  test('that dies at migration.lease.claiming is none that an older copy was put back of', async () => {
    await lease.take(catalog)
    store.script = away
    const { epoch } = await lease.take(catalog)
    store.script = back
    onFaultPoint((name) => {
      if (name === 'migration.lease.claiming') throw new Error('dead')
    })
    await expect(lease.claim(catalog, epoch)).rejects.toThrow('dead')
    onFaultPoint(undefined)
    await lease.claim(catalog, epoch)
    await lease.take(catalog)
    expect(catalog.doubts.any).toBe(false)
  })
})
