import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { fileId, ROOT_INO } from '../../../src/catalog/index.ts'
import { headerKey } from '../../../src/content/index.ts'
import { acceptLosses } from '../../../src/migration/index.ts'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { MadeStore, named } from '../../support/made-store.ts'
import { Client } from '../../support/rig/client.ts'
import { foundTree } from '../../support/rig/found-tree.ts'
import { Rig } from '../../support/rig/rig.ts'

/*
 * The record of the tree's root is not there. When can that be, and what has to be so:
 *
 * 1. The namespace was taken, and nothing stored yet: all is on SOURCE.
 * 2. The store has lost that record alone; others are there, which nothing leads to.
 * 3. The record is there and makes no sense.
 * 4. The store cannot say now: that is no loss.
 *
 * In the first three the tree is lost, not empty: no name is free in it, nothing is written over what may come back, and what is made
 * later never gets a key of what a lost record may name.
 */

let rig: Rig | undefined

afterEach(async () => {
  await rig?.stop()
  rig = undefined
})

async function rebuilt(store: MadeStore, accepts = false) {
  const { rig: made, result } = await Rig.rebuilt(store.memory, true, accepts)
  rig = made
  return {
    made,
    result,
    lines: result.failures.map(({ kind, path, reason }) => `${kind} ${path}: ${reason}`),
  }
}

async function objectsOf({ memory }: MadeStore): Promise<Record<string, string>> {
  const objects: Record<string, string> = {}
  for (const space of ['files', 'chunks', 'dirs'] as const)
    for await (const key of memory.keys(space))
      objects[`${space} ${key}`] = (await memory.get(space, key))?.value.toString('latin1') ?? ''
  return objects
}

/** A tree whose newest numbers are known to the record of the root alone. */
async function withoutRoot(): Promise<MadeStore> {
  const store = new MadeStore()
  await store.lease()
  await store.file({ ino: 9n }, '9-9', 'text')
  await store.directory({ ino: 2n }, [named('f', 9n, '9-9')])
  await store.directory({ ino: 1n << 48n, generation: 1 }, [])
  return store
}

const STORES: ReadonlyArray<readonly [name: string, make: () => Promise<MadeStore>]> = [
  [
    'nothing was stored',
    async () => {
      const store = new MadeStore()
      await store.lease()
      return store
    },
  ],
  ['the record alone was lost', withoutRoot],
  [
    'the record makes no sense',
    async () => {
      const store = await withoutRoot()
      await store.put('dirs', headerKey('1-0'), Buffer.from('{'))
      return store
    },
  ],
]

describe.each(STORES)('a tree without the record of its root: %s', (_, make) => {
  test('P1, P5: is lost, and not an empty one; nothing is made in it, and nothing written over what was there', async () => {
    const store = await make()
    const before = await objectsOf(store)
    const { lines, made } = await rebuilt(store)
    expect(lines).toEqual([expect.stringMatching(/^lost \.: the record of the tree's root is lost: .*1-0/)])
    expect(await foundTree(made)).toEqual({ '/': 'EIO' })
    const client = new Client(made)
    await expect(client.create('new', 'text')).rejects.toThrow(/1-0/)
    await expect(client.mkdir('d')).rejects.toThrow(/1-0/)
    await expect(client.lookup('f')).rejects.toThrow(/1-0/)
    await made.settle()
    expect((await made.verify()).differences).toMatchObject([{ kind: 'missing', path: '.' }])
    expect(await objectsOf(store)).toEqual(before)
  })

  test('P2, P5: once that is accepted it is used like any, and no object gets the key of one that was there', async () => {
    const store = await make()
    const { [`dirs ${headerKey('1-0')}`]: _root, ...before } = await objectsOf(store)
    const { lines, made } = await rebuilt(store, true)
    expect(lines).toEqual([expect.stringMatching(/^left out \.: the record of the tree's root is lost: /)])
    expect(await foundTree(made)).toEqual({})
    const client = new Client(made)
    await client.mkdir('d')
    await client.create('d/new', 'text')
    await made.settle()
    expect(await objectsOf(store)).toMatchObject(before)
    expect((await made.verify()).differences).toEqual([])
    await made.stop()
    const again = await Rig.rebuilt(store.memory, true)
    rig = again.rig
    expect(again.result.failures).toEqual([])
    expect(await foundTree(rig)).toEqual({ '/d': 'dir', '/d/new': 'text' })
  })
})

test('P5: a store that cannot say now what it has ends the rebuild, and nothing is said to be lost', async () => {
  const store = await withoutRoot()
  const { memory } = store
  const get = memory.get.bind(memory)
  Object.assign(memory, {
    get: (...args: Parameters<typeof get>) =>
      args[0] === 'dirs' ? Promise.reject(new StoreUnavailable('a node is away')) : get(...args),
  })
  await expect(Rig.rebuilt(memory, true)).rejects.toThrow(/a node is away; nothing was made: rebuild again/)
})

test('P2: a lost record below the root is no reason to use the numbers again that it may name', async () => {
  const store = new MadeStore()
  const ino = (1n << 48n) + 2n
  // What only the lost one names was made last.
  await store.directory({ ino: ino + 1n, generation: 6 }, [])
  await store.root([named('lost', ino, undefined, { generation: 5 })])
  const key = `dirs ${headerKey(fileId({ ino: ino + 1n, generation: 6 }))}`
  const { [key]: before } = await objectsOf(store)
  expect(before).toBeDefined()
  const { made } = await rebuilt(store)
  const client = new Client(made)
  await client.mkdir('d')
  await client.create('d/new', 'text')
  await made.settle()
  expect((await objectsOf(store))[key]).toBe(before)
})

test('P1: beside a SOURCE the root has the attributes of that, and what is there is served once the loss is accepted', async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), 'never looked at')
      writeFileSync(join(source, 'top'), 'never looked at either')
      chmodSync(source, 0o2751)
    },
  })
  const { memory } = rig.world
  const root = await memory.get('dirs', headerKey('1-0'))
  if (root) await memory.delete('dirs', headerKey('1-0'), { epoch: root.version.epoch + 1, version: 0 })
  const { failures, merged } = await rig.loseState()
  expect(failures).toMatchObject([{ kind: 'lost', path: '.' }])
  expect(merged.added.count).toBe(2)
  const inode = rig.catalog.get(ROOT_INO)
  const stat = statSync(rig.source, { bigint: true })
  expect(inode).toMatchObject({ mode: Number(stat.mode), mtimeNs: stat.mtimeNs, ctimeNs: stat.ctimeNs })
  expect(await foundTree(rig)).toEqual({ '/': 'EIO' })
  await expect(new Client(rig).readPath('top')).rejects.toThrow(/1-0/)
  await acceptLosses(rig.built.context)
  const client = new Client(rig)
  expect(await client.readPath('d/f')).toBe('never looked at')
  expect(await client.readPath('top')).toBe('never looked at either')
  await rig.migrate()
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
})
