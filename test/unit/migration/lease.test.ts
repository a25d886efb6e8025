import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { ClaimedStore, NamespaceLease } from '../../../src/migration/index.ts'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import { StoreSuperseded, StoreUnavailable } from '../../../src/store/errors.ts'
import { ScriptedStore } from '../../support/scripted-store.ts'

let directory: string
let catalog: Catalog
let store: ScriptedStore
let lease: NamespaceLease

const away = (): Promise<never> => Promise.reject(new StoreUnavailable('away'))
const back: ScriptedStore['script'] = (_operation, proceed) => proceed()
const object: ObjectToStore = {
  value: Buffer.from('x'),
  version: { epoch: 9, version: 1 },
  contentType: 'text/plain',
  metadata: {},
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-lease-'))
  catalog = Catalog.open(join(directory, 'catalog.db'), { check: false })
  store = new ScriptedStore()
  lease = new NamespaceLease(store, 'ns')
})

afterEach(async () => {
  await catalog.close()
  rmSync(directory, { recursive: true })
})

test('P4: a mount of a namespace that it has had comes up without the store and claims it before the first write', async () => {
  const first = await lease.take(catalog)
  expect(first.claimed).toBe(true)
  store.script = away
  const { epoch, claimed } = await lease.take(catalog)
  expect(claimed).toBe(false)
  expect(epoch).toBeGreaterThan(first.epoch)
  const written = new ClaimedStore(store, () => lease.claim(catalog, epoch))
  const asked = store.calls.length
  await expect(written.put('files', 'a', object)).rejects.toThrow('away')
  expect(store.calls.slice(asked)).toEqual(['get'])
  // A successor of the worker knows that the store has not been told yet.
  expect(lease.taken(catalog)).toEqual({ epoch, claimed: false })
  store.script = back
  await written.put('files', 'a', object)
  expect((await lease.read())?.epoch).toBe(epoch)
  expect(lease.taken(catalog)).toEqual({ epoch, claimed: true })
})

test('P2: a state directory that never had the namespace is not let in without the store', async () => {
  store.script = away
  await expect(lease.take(catalog)).rejects.toThrow(StoreUnavailable)
})

test('P2: whoever took the namespace meanwhile keeps it: nothing is written under an epoch taken without the store', async () => {
  await lease.take(catalog)
  store.script = away
  const { epoch } = await lease.take(catalog)
  store.script = back
  const path = join(directory, 'other.db')
  const other = Catalog.open(path, { check: false })
  await lease.acquire(other, true)
  await other.close()
  const written = new ClaimedStore(store, () => lease.claim(catalog, epoch))
  await expect(written.put('files', 'a', object)).rejects.toThrow(StoreSuperseded)
  expect(await store.get('files', 'a')).toBeUndefined()
})

test('P4: an epoch whose first answer was lost is claimed again', async () => {
  await lease.take(catalog)
  store.script = away
  const { epoch } = await lease.take(catalog)
  store.script = async (operation, proceed) => {
    await proceed()
    if (operation === 'put') throw new StoreUnavailable('no answer', { outcomeUnknown: true })
  }
  await expect(lease.claim(catalog, epoch)).rejects.toThrow('no answer')
  store.script = back
  await lease.claim(catalog, epoch)
  expect(lease.taken(catalog).claimed).toBe(true)
})

/** What the store had, put back: as a backup of it is. */
async function storeOfBefore(body: () => Promise<unknown>): Promise<void> {
  const before = await store.get('meta', 'namespace')
  await body()
  const now = await store.get('meta', 'namespace')
  if (!now) throw new Error('there is no lease')
  await store.delete('meta', 'namespace', now.version)
  if (before) await store.put('meta', 'namespace', before)
}

test('P2: a store that was put back to an older copy is a loss that the next mount tells of, once', async () => {
  await lease.acquire(catalog, false)
  await lease.acquire(catalog, false)
  expect(catalog.doubts.losses()).toEqual([])
  await storeOfBefore(() => lease.acquire(catalog, false))
  await lease.acquire(catalog, false)
  expect(catalog.doubts.any).toBe(true)
  expect(catalog.doubts.losses().map(({ detail }) => detail)).toEqual([
    expect.stringMatching(/^the store .* is older than what it has acknowledged: its namespace ns is as/),
  ])
  await lease.acquire(catalog, false)
  expect(catalog.doubts.losses()).toHaveLength(1)
})

test('P2: so is one that has nothing of it any more, also where the mount met it later', async () => {
  await storeOfBefore(() => lease.acquire(catalog, false))
  store.script = away
  const { epoch } = await lease.take(catalog)
  store.script = back
  await lease.claim(catalog, epoch)
  expect(catalog.doubts.losses().map(({ detail }) => detail)).toEqual([
    expect.stringMatching(/^the store .* has no namespace ns, which it had acknowledged/),
  ])
})

test('P2: an answer that was lost, and one of a store that may not know its newest, are none', async () => {
  await lease.acquire(catalog, false)
  store.script = async (operation, proceed) => {
    if (operation === 'put') throw new StoreUnavailable('the answer is lost')
    return proceed()
  }
  await expect(lease.acquire(catalog, false)).rejects.toThrow('the answer is lost')
  store.script = back
  await lease.acquire(catalog, false)
  expect(catalog.doubts.losses()).toEqual([])
  Object.defineProperty(store, 'capabilities', { value: { ...store.capabilities, consistent: false } })
  await storeOfBefore(() => lease.acquire(catalog, false))
  await lease.acquire(catalog, false)
  expect(catalog.doubts.losses()).toEqual([])
})
