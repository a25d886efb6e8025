import { linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { entriesToRecord } from '../../../src/content/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// More than a turn of the event loop has room for (later.ts).
const NAMES = 200
const names = Array.from({ length: NAMES }, (_, index) => `n${index}`)

let rig: Rig
let client: Client

afterEach(() => rig.stop())

async function startWith(mode: 'mirror' | 'drain', shardEntries?: number): Promise<void> {
  rig = await Rig.start({
    mode,
    ...(shardEntries === undefined ? {} : { shardEntries }),
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      for (const name of names) writeFileSync(join(source, 'd', name), '')
    },
  })
  client = new Client(rig)
}

const rowsOf = (directory: bigint): number => [...rig.catalog.dirents.all(directory)].length

describe('P6: a directory with many names that was removed past the overlay', () => {
  async function removedPast(): Promise<bigint> {
    await startWith('mirror', 10)
    await client.tree()
    await rig.migrate()
    await rig.settle()
    const directory = await client.node('d')
    rmSync(join(rig.source, 'd'), { recursive: true })
    expect(await client.exists('d')).toBe(false)
    client.forgetAll()
    for (const ino of [directory, directory]) rig.overlay.forget(ino, 1n)
    return directory
  }

  test('goes from the catalog in as many turns as it takes', async () => {
    const directory = await removedPast()
    expect(rowsOf(directory)).toBeGreaterThan(0)
    await rig.settle()
    expect(rowsOf(directory)).toBe(0)
    expect(rig.catalog.get(directory)).toBeUndefined()
    await expectSettled(rig)
  })

  test('P4: goes at the next mount where a crash comes first', async () => {
    const directory = await removedPast()
    expect(rowsOf(directory)).toBeGreaterThan(0)
    await rig.restart('mount')
    await rig.settle()
    expect(rowsOf(directory)).toBe(0)
    expect(rig.catalog.get(directory)).toBeUndefined()
    await expectSettled(rig)
  })
})

describe('P6: a directory whose many names the volume still has', () => {
  test('P1: is empty once all are removed, and not before', async () => {
    await startWith('drain')
    for (const name of names.slice(1)) await client.unlink(`d/${name}`)
    const remove = (): Promise<unknown> =>
      rig.perform(async (overlay, request) => overlay.rmdir(request, 1n, Buffer.from('d')))
    await expect(remove()).rejects.toMatchObject({ code: 'ENOTEMPTY' })
    await client.unlink('d/n0')
    // A name past the overlay that was never met is one all the same.
    writeFileSync(join(rig.source, 'd', 'other'), '')
    await expect(remove()).rejects.toMatchObject({ code: 'ENOTEMPTY' })
    await client.unlink('d/other')
    await remove()
    expect(await client.exists('d')).toBe(false)
    client.forgetAll()
    await rig.settle()
    await rig.migrate()
    await rig.settle()
    expect(readdirSync(rig.source)).toEqual([])
    await expectSettled(rig)
  })

  test('is not replaced by another before that', async () => {
    await startWith('drain')
    await client.mkdir('e')
    await expect(client.rename('e', 'd')).rejects.toMatchObject({ code: 'ENOTEMPTY' })
    for (const name of names) await client.unlink(`d/${name}`)
    await client.rename('e', 'd')
    expect((await client.list(await client.node('d'))).map(String)).toEqual([])
  })
})

test('P4: the record of a directory with many parts is gone from the store with the directory, a crash in between or not', async () => {
  await startWith('drain', 2)
  await rig.migrate()
  await rig.settle()
  const directory = await client.node('d')
  expect(rig.catalog.get(directory)?.dirShards).toBeGreaterThan(64)
  for (const name of names) await client.unlink(`d/${name}`)
  await rig.perform(async (overlay, request) => overlay.rmdir(request, 1n, Buffer.from('d')))
  client.forgetAll()
  rig.overlay.forget(directory, 1n)
  await rig.restart('mount')
  await rig.settle()
  await expectSettled(rig)
})

test('P6: the record of a directory says once where a file of many names had been', async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      writeFileSync(join(source, 'n0'), 'many names')
      for (const name of names.slice(1)) linkSync(join(source, 'n0'), join(source, name))
    },
  })
  client = new Client(rig)
  await rig.migrate()
  await rig.settle()
  for (const name of names.slice(0, 50)) await client.unlink(name)
  const entries = entriesToRecord(rig.catalog, 1n, 0, 1)
  expect(entries).toHaveLength(NAMES - 50)
  expect(entries.filter(({ from }) => from !== undefined)).toHaveLength(1)
  await expectSettled(rig)
})
