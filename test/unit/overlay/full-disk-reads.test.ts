import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

let rig: Rig
let client: Client

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      mkdirSync(join(source, 'd/e'), { recursive: true })
      mkdirSync(join(source, 'empty'))
      writeFileSync(join(source, 'd/e/file'), 'deep')
      writeFileSync(join(source, 'a'), 'alpha')
      linkSync(join(source, 'a'), join(source, 'd/a2'))
      for (let nth = 0; nth < 50; nth += 1) writeFileSync(join(source, 'd', `f${nth}`), `${nth}`)
    },
  })
  client = new Client(rig)
})

afterEach(async () => {
  freeDisk(rig.catalogPath)
  await rig.stop()
})

const countOf = (): number => [...rig.catalog.scan()].length

describe('P6: a catalog without room', () => {
  test('keeps nobody from looking at files that it has never met, and from reading them', async () => {
    fillDisk(rig.catalogPath)
    expect(await client.readPath('d/e/file')).toBe('deep')
    const a = await client.node('a')
    expect(await client.node('d/a2')).toBe(a)
    const names = (await client.list(await client.node('d'), 7)).map(String)
    expect(names.length).toBe(52)
    for (const name of names.filter((each) => each.startsWith('f')))
      expect(await client.readPath(`d/${name}`)).toBe(name.slice(1))
    expect((await client.describe(await client.node('d/e/file'))).size).toBe(4)
    expect(countOf()).toBe(1)
    await expect(client.create('d/new', 'x')).rejects.toMatchObject({ code: 'ENOSPC' })
  })

  test('gets the rows of what was met once there is room, under the same numbers', async () => {
    fillDisk(rig.catalogPath)
    const met = await client.tree()
    const node = await client.node('d/e/file')
    await client.node('empty')
    freeDisk(rig.catalogPath)
    rig.catalog.keepMet(1000)
    expect(rig.catalog.get(node)?.generation).toBeGreaterThan(0)
    expect(countOf()).toBeGreaterThan(3)
    expect(rig.catalog.links.pathOf(node)?.toString()).toBe('d/e/file')
    await rig.restart('worker')
    client = new Client(rig)
    expect(rig.catalog.links.pathOf(node)?.toString()).toBe('d/e/file')
    expect(await client.node('d/e/file')).toBe(node)
    expect(await client.tree()).toEqual(met)
    await rig.migrate()
    await expectSettled(rig)
  })

  test('has the rows of a file that is changed, of all its names and of what leads to it, with the change', async () => {
    fillDisk(rig.catalogPath)
    const node = await client.node('d/e/file')
    const a = await client.node('a')
    await client.node('d/a2')
    await expect(client.overwrite('d/e/file', 0, 'DEEP')).rejects.toMatchObject({ code: 'ENOSPC' })
    freeDisk(rig.catalogPath)
    await client.overwrite('d/e/file', 0, 'DEEP')
    await client.overwrite('a', 0, 'ALPHA')
    await client.rename('d/e', 'e')
    await client.unlink('d/f7')
    expect([...rig.catalog.links.of(a)]).toHaveLength(2)
    await rig.settle()
    await rig.restart('worker')
    client = new Client(rig)
    expect(await client.node('e/file')).toBe(node)
    expect(await client.readPath('e/file')).toBe('DEEP')
    expect(await client.readPath('d/a2')).toBe('ALPHA')
    expect(await client.exists('d/f7')).toBe(false)
    await rig.migrate()
    await expectSettled(rig)
  })

  test('P7: the next worker knows what was met, by the same numbers, and has no other under them', async () => {
    fillDisk(rig.catalogPath)
    const node = await client.node('d/e/file')
    const a = await client.node('a')
    expect(await client.node('d/a2')).toBe(a)
    const gone = await client.node('d/f1')
    const met = await client.tree()
    rig.overlay.forget(gone, 1000n)
    const generations = [...['d/e/file', 'a', 'd']].map(async (path) => {
      return rig.catalog.get(await client.node(path))?.generation ?? 0
    })
    const highest = Math.max(...(await Promise.all(generations)))
    for (let kill = 0; kill < 2; kill += 1) {
      await rig.restart('worker')
      client = new Client(rig)
      expect((await client.read(node)).toString()).toBe('deep')
      expect((await client.read(a)).toString()).toBe('alpha')
      expect(rig.catalog.links.pathOf(node)?.toString()).toBe('d/e/file')
      expect(await client.node('d/e/file')).toBe(node)
      expect(await client.node('d/a2')).toBe(a)
      expect(await client.tree()).toEqual(met)
      expect(countOf()).toBe(1)
    }
    freeDisk(rig.catalogPath)
    rig.catalog.keepMet(1000)
    expect(rig.catalog.get(await client.create('d/new', 'x'))?.generation).toBeGreaterThan(highest)
    client.forgetAll()
    await rig.migrate()
    await rig.restart('worker')
    expect(await new Client(rig).readPath('d/e/file')).toBe('deep')
    await expectSettled(rig)
  })

  test('a file that nobody uses any more is forgotten, and its number with it', async () => {
    fillDisk(rig.catalogPath)
    const node = await client.node('a')
    expect(rig.catalog.get(node)).toBeDefined()
    rig.overlay.forget(node, 1n)
    expect(rig.catalog.get(node)).toBeUndefined()
    expect(await client.readPath('a')).toBe('alpha')
  })
})

test('P5: store-only is not had before files that were only met are in the store', async () => {
  fillDisk(rig.catalogPath)
  await client.readPath('d/e/file')
  await client.list(await client.node('d'))
  freeDisk(rig.catalogPath)
  await expect(rig.setMode('store-only')).rejects.toThrow(/not in the store yet/)
  await rig.migrate()
  await rig.setMode('store-only')
  expect(await client.readPath('d/e/file')).toBe('deep')
  await expectSettled(rig)
})
