import { existsSync, linkSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { Catalog } from '../../../src/catalog/index.ts'
import { Client } from '../../support/rig/client.ts'
import { type Lost, Rig, type RigOptions } from '../../support/rig/rig.ts'

/*
 * A drain is half done, the state directory is lost, and `rebuild` and the first mount bring the store and SOURCE
 * together. One file has several names on SOURCE, or a directory another name than in the store. What can come in
 * between:
 *
 * 1. One name was looked at and the file changed, the other never: it is the same file, and never has the bytes of
 *    before. In whatever order the two are met, in one directory or two, below a directory that SOURCE alone has, or
 *    one that was renamed.
 * 2. The name that was looked at was renamed: of the names on SOURCE one is the former name. By the number of names
 *    that the file has nobody can tell which of two; both lead to the file, and are listed.
 * 3. The name that was looked at was removed, or something else took it: no name in the store leads to what was
 *    written, and the other name on SOURCE has the bytes of before. The record of the directory keeps the name as one
 *    that left; so it is when that directory is removed as well, and where nothing of the file was in the store at that
 *    time.
 * 4. A file with one name was renamed, and the volume has it under its former name yet: it is not there twice.
 * 5. A directory was renamed: what nobody has looked at in it is in the renamed one, what was stored of it is there
 *    once. Into another directory, over what SOURCE has under the new name, exchanged with another one, one in the
 *    other's place, with a new one in its old place.
 * 6. The directory was renamed before anything in it was in the store.
 * 7. The number of a file of the store is another file's on SOURCE: it is that other file.
 * 8. The store has lost the file: its other names are as lost as the one that it knows.
 * 9. SOURCE's file was changed later than the store's: the store's is shown under all names, and they are listed.
 * 10. The merge is cut short after any directory, and done again: nothing else comes out.
 * 11. The records in the store lag behind (a name that was removed is in them): a name on SOURCE is there rather than
 *     hidden.
 */

let rig: Rig
let client: Client

afterEach(() => rig.stop())

async function start(fill: (source: string) => void, options: RigOptions = {}): Promise<void> {
  rig = await Rig.start({ mode: 'drain', fill, ...options })
  client = new Client(rig)
}

const put = (source: string, path: string, content: string): void => {
  mkdirSync(join(source, path, '..'), { recursive: true })
  writeFileSync(join(source, path), content)
}

/** a/f1 and b/hard1 are one file; beside them what nobody ever looks at. */
function linked(source: string): void {
  put(source, 'a/f1', 'old')
  put(source, 'a/other', 'other')
  put(source, 'b/untouched', 'untouched')
  linkSync(join(source, 'a/f1'), join(source, 'b/hard1'))
}

async function lose(dies?: number, rebuilt?: (catalog: Catalog) => void): Promise<Lost> {
  await rig.settle()
  const lost = await rig.loseState(dies, rebuilt)
  client = new Client(rig)
  return lost
}

async function shown(): Promise<Record<string, string>> {
  const tree = await client.tree()
  return Object.fromEntries(
    [...tree]
      .filter(([, { mode }]) => !mode.startsWith('4'))
      .map(([path, { content }]) => [path.slice(1), content.toString()]),
  )
}

const nothing = ({ failures, merged }: Lost): void => {
  expect({ failures, doubts: merged.doubts.items }).toEqual({ failures: [], doubts: [] })
}

async function nlinks(...paths: string[]): Promise<Array<[nlink: number, ino: bigint]>> {
  const found: Array<[number, bigint]> = []
  for (const path of paths) {
    const { attributes } = (await client.lookup(path)) ?? {}
    found.push([attributes?.nlink ?? 0, attributes?.ino ?? 0n])
  }
  return found
}

/** All of it goes to the store, nothing is found otherwise, and the tree is the same; also by another rebuild. */
async function drains(wanted: Record<string, string>): Promise<void> {
  await rig.migrate()
  await rig.settle()
  await rig.reap()
  expect((await rig.verify()).differences).toEqual([])
  expect(await shown()).toEqual(wanted)
  await rig.restart('mount')
  client = new Client(rig)
  expect(await shown()).toEqual(wanted)
  const { rig: other, result } = await Rig.rebuilt(rig.world.memory)
  try {
    expect(result.failures).toEqual([])
    const tree = await new Client(other).tree()
    for (const [path, content] of Object.entries(wanted))
      expect([path, tree.get(`/${path}`)?.content.toString()]).toEqual([path, content])
  } finally {
    await other.stop()
  }
}

const NEW = { 'a/f1': 'new bytes', 'b/hard1': 'new bytes', 'a/other': 'other', 'b/untouched': 'untouched' }

test.each([undefined, 1, 2, 3, -1])(
  'P1, P5: the other name of a file that was changed in drain is that file, cut short after %s directories',
  async (dies) => {
    await start(linked)
    await client.overwrite('a/f1', 0, 'new bytes')
    nothing(await lose(dies))
    expect(await shown()).toEqual(NEW)
    const [[n1, i1] = [], [n2, i2] = []] = await nlinks('a/f1', 'b/hard1')
    expect([n1, n2]).toEqual([2, 2])
    expect(i1).toBe(i2)
    await client.overwrite('b/hard1', 0, 'NEW')
    const after = { ...NEW, 'a/f1': 'NEW bytes', 'b/hard1': 'NEW bytes' }
    expect(await shown()).toEqual(after)
    await drains(after)
    // What nobody can know to be a copy stays.
    expect(readFileSync(join(rig.source, 'b/hard1'), 'utf8')).toBe('old')
    expect(existsSync(join(rig.source, 'b/untouched'))).toBe(false)
  },
)

test('P1: one of its names is removed after the merge, and the other goes on', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  nothing(await lose())
  await client.unlink('b/hard1')
  expect((await nlinks('a/f1'))[0]?.[0]).toBe(1)
  const { 'b/hard1': _, ...left } = NEW
  await drains(left)
})

test('P1, P5: a name in a directory that SOURCE alone has, before and behind the one that the store has', async () => {
  await start((source) => {
    for (const name of ['0', 'a', 'zz/deep/er']) put(source, `${name}/own`, name)
    put(source, 'm/f', 'old')
    for (const name of ['0', 'a', 'zz/deep/er']) linkSync(join(source, 'm/f'), join(source, name, 'hard'))
  })
  await client.overwrite('m/f', 0, 'new bytes')
  const lost = await lose(2)
  nothing(lost)
  // Also what an attempt has met that was cut short: there is something to drain.
  expect(lost.merged.added.items).toEqual(expect.arrayContaining(['0', 'a', 'zz']))
  const names = ['0/hard', 'a/hard', 'zz/deep/er/hard', 'm/f']
  const wanted = Object.fromEntries([
    ...names.map((name) => [name, 'new bytes']),
    ...['0', 'a', 'zz/deep/er'].map((name) => [`${name}/own`, name]),
  ])
  expect(await shown()).toEqual(wanted)
  expect((await nlinks(...names)).map(([nlink]) => nlink)).toEqual([4, 4, 4, 4])
  await drains(wanted)
})

test('P1: the name that was looked at was renamed; the other two cannot be told apart, are right, and are listed', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.rename('a/f1', 'a/g1')
  const { failures, merged } = await lose()
  expect(failures).toEqual([])
  expect(merged.doubts.items.map(({ path }) => path).sort()).toEqual(['a/f1', 'b/hard1'])
  expect(await shown()).toEqual({ ...NEW, 'a/g1': 'new bytes' })
  expect((await nlinks('a/g1'))[0]?.[0]).toBe(3)
})

test('P1: a file with one name that was renamed is there once, with the later bytes', async () => {
  await start((source) => {
    put(source, 'a/f', 'old')
    put(source, 'a/other', 'other')
  })
  await client.overwrite('a/f', 0, 'new bytes')
  await client.mkdir('c')
  await client.rename('a/f', 'c/g')
  nothing(await lose())
  const wanted = { 'c/g': 'new bytes', 'a/other': 'other' }
  expect(await shown()).toEqual(wanted)
  await drains(wanted)
})

test.each([false, true])(
  'P1, P2, P5: the name that was looked at was removed: the other one has the later bytes (stored before: %s)',
  async (stored) => {
    await start(linked)
    await client.overwrite('a/f1', 0, 'new bytes')
    if (stored) await rig.settle()
    await client.unlink('a/f1')
    const { failures, merged } = await lose()
    expect(failures.map(({ path, kind }) => [path, kind])).toEqual([['a/f1', 'doubt']])
    expect(merged.doubts.items).toEqual([])
    const { 'a/f1': _, ...wanted } = NEW
    expect(await shown()).toEqual(wanted)
    expect((await nlinks('b/hard1'))[0]?.[0]).toBe(1)
    await drains(wanted)
  },
)

test.each([false, true])(
  'P1, P2: something else took the name that was looked at (and its directory is gone: %s)',
  async (gone) => {
    await start(linked)
    await client.overwrite('a/f1', 0, 'new bytes')
    await rig.settle()
    await client.create('a/tmp', 'another')
    await client.rename('a/tmp', 'a/f1')
    if (gone) {
      for (const name of ['f1', 'other']) await client.unlink(`a/${name}`)
      const { parent, name } = await client.place('a')
      await rig.perform((overlay, request) => overlay.rmdir(request, parent, name))
    }
    const { merged } = await lose()
    const tree = await shown()
    // What was removed, and is on SOURCE yet, is back with its directory: two names there, and one that it should have.
    expect(merged.doubts.items.map(({ path }) => path)).toEqual(gone ? ['a/f1', 'b/hard1'] : [])
    expect(tree).toEqual(gone ? NEW : { ...NEW, 'a/f1': 'another' })
    expect((await nlinks('b/hard1'))[0]?.[0]).toBe(gone ? 2 : 1)
  },
)

test('P2: nobody meets the other name before the mount ends: a record leads to the file all the time, and is tidy at the end', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.unlink('a/f1')
  await rig.settle()
  await rig.restart('mount')
  client = new Client(rig)
  expect(await shown()).toMatchObject({ 'b/hard1': 'new bytes' })
  await rig.migrate()
  await rig.settle()
  expect(rig.catalog.departures.isEmpty).toBe(true)
  await rig.reap()
  expect(existsSync(join(rig.source, 'a/f1'))).toBe(false)
  expect((await rig.verify()).differences).toEqual([])
})

/** Directories of which one file each was looked at. */
function directories(source: string): void {
  for (const name of ['d', 'e/below', 'x'])
    for (const file of ['seen', 'unseen', 'sub/unseen']) put(source, `${name}/${file}`, `${name} ${file}`)
}

const all = (place: string, name: string): Record<string, string> => ({
  [`${place}/seen`]: `${name} SEEN`,
  [`${place}/unseen`]: `${name} unseen`,
  [`${place}/sub/unseen`]: `${name} sub/unseen`,
})

const RENAMES: Record<string, { act: () => Promise<void>; wanted: Record<string, string> }> = {
  'within its directory': {
    act: () => client.rename('d', 'new'),
    wanted: { ...all('new', 'd'), ...all('e/below', 'e/below'), ...all('x', 'x') },
  },
  'into another, and out of one': {
    act: async () => {
      await client.rename('d', 'x/d')
      await client.rename('e/below', 'below')
    },
    wanted: { ...all('x/d', 'd'), ...all('below', 'e/below'), ...all('x', 'x') },
  },
  'into one that was renamed into another': {
    act: async () => {
      await client.rename('d', 'e/below/d')
      await client.rename('e', 'x/e')
      await client.rename('x', 'y')
    },
    wanted: { ...all('y/e/below/d', 'd'), ...all('y/e/below', 'e/below'), ...all('y', 'x') },
  },
  'in exchange for another': {
    act: () => client.rename('d', 'x', 2),
    wanted: { ...all('x', 'd'), ...all('e/below', 'e/below'), ...all('d', 'x') },
  },
  'out of the way of a new one': {
    act: async () => {
      await client.rename('d', 'new')
      await client.mkdir('d')
      await client.create('d/made', 'made')
    },
    wanted: { ...all('new', 'd'), ...all('e/below', 'e/below'), ...all('x', 'x'), 'd/made': 'made' },
  },
}

test.each(
  Object.entries(RENAMES).flatMap(([how, of]) => [undefined, 1, 2, 4].map((dies) => ({ how, of, dies }))),
)(
  'P1, P5: a directory that was renamed $how is there once, with what nobody looked at; cut short after $dies',
  async ({ of, dies }) => {
    await start(directories)
    for (const name of ['d', 'e/below', 'x']) await client.overwrite(`${name}/seen`, name.length + 1, 'SEEN')
    await of.act()
    nothing(await lose(dies))
    expect(await shown()).toEqual(of.wanted)
    expect([...(await client.tree()).keys()].filter((path) => path === '/d').length).toBe(
      'd/made' in of.wanted || 'd/seen' in of.wanted ? 1 : 0,
    )
    await drains(of.wanted)
    expect(existsSync(join(rig.source, 'e'))).toBe(true)
    expect(existsSync(join(rig.source, 'd/unseen'))).toBe(false)
  },
)

test('P5: a directory that was renamed before anything of it was in the store is where it was renamed to', async () => {
  await start(directories)
  await client.rename('e/below', 'x/new')
  nothing(await lose())
  expect(
    Object.keys(await shown())
      .filter((path) => /below|new/.test(path))
      .sort(),
  ).toEqual(['x/new/seen', 'x/new/sub/unseen', 'x/new/unseen'])
})

test('P1: a name of a hard link below a directory that was renamed is the file, and so is one beside its old place', async () => {
  await start((source) => {
    linked(source)
    put(source, 'b/sub/own', 'own')
    linkSync(join(source, 'a/f1'), join(source, 'b/sub/deep'))
  })
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.rename('b', 'c')
  await client.rename('a', 'c/a')
  nothing(await lose())
  const wanted = {
    'c/a/f1': 'new bytes',
    'c/a/other': 'other',
    'c/hard1': 'new bytes',
    'c/untouched': 'untouched',
    'c/sub/deep': 'new bytes',
    'c/sub/own': 'own',
  }
  expect(await shown()).toEqual(wanted)
  await drains(wanted)
})

test('P1: SOURCE has changed the file later under the other name: the store is shown under both, and they are listed', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await rig.settle()
  const { mtimeMs } = statSync(join(rig.source, 'a/f1'))
  do writeFileSync(join(rig.source, 'b/hard1'), 'later')
  while (statSync(join(rig.source, 'a/f1')).mtimeMs === mtimeMs)
  const { merged } = await lose()
  expect(merged.doubts.items.map(({ path }) => path).sort()).toEqual(['a/f1', 'b/hard1'])
  expect(await shown()).toEqual(NEW)
})

test('P1: the store has lost the file: its other name is lost as well, and listed', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await rig.settle()
  await rig.world.memory.delete('files', 'a/f1', { epoch: 2 ** 50, version: Number.MAX_SAFE_INTEGER })
  const { failures, merged } = await lose()
  expect(failures.map(({ path, kind }) => [path, kind])).toEqual([['a/f1', 'lost']])
  expect(merged.doubts.items.map(({ path }) => path).sort()).toEqual(['a/f1', 'b/hard1'])
  for (const path of ['a/f1', 'b/hard1'])
    await expect(client.readPath(path)).rejects.toMatchObject({ code: 'EIO' })
})

/** The store's file that is a/g1 has another time of birth. */
function born(at: bigint): (catalog: Catalog) => void {
  return (catalog) =>
    catalog.transaction(() => {
      for (const inode of catalog.scan())
        if (inode.key === 'a/g1') catalog.save(Object.assign(inode, { btimeNs: at }))
    })
}

test('P1: a number that is another file on SOURCE by now is that file, and not a name of the one in the store', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.rename('a/f1', 'a/g1')
  nothing(await lose(undefined, born(7n)))
  const wanted = { 'a/g1': 'new bytes', 'a/other': 'other', 'b/untouched': 'untouched' }
  expect(await shown()).toEqual({ ...wanted, 'a/f1': 'old', 'b/hard1': 'old' })
  await drains({ ...wanted, 'a/f1': 'old', 'b/hard1': 'old' })
})

test('P1: where no time of birth is known a file that has the number alone is the one in the store, and listed', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.rename('a/f1', 'a/g1')
  const { merged } = await lose(undefined, born(0n))
  expect(merged.doubts.items.map(({ path }) => path).sort()).toEqual(['a/f1', 'b/hard1'])
  expect(merged.doubts.items[0]?.reason).toMatch(/nobody can tell whether/)
  expect(await shown()).toEqual({ ...NEW, 'a/g1': 'new bytes' })
})

test('P1, P5: a record that lags behind has a name that was removed: the one on SOURCE is there all the same', async () => {
  await start(linked)
  await client.overwrite('a/f1', 0, 'new bytes')
  await client.mkdir('c')
  await client.link('a/f1', 'c/f2')
  await rig.settle()
  const { memory } = rig.world
  const former = new Map<string, NonNullable<Awaited<ReturnType<typeof memory.get>>>>()
  const { nodeId = 0n } = (await client.lookup('c')) ?? {}
  for await (const key of memory.keys('dirs')) {
    const object = key.startsWith(nodeId.toString(16)) ? await memory.get('dirs', key) : undefined
    if (object) former.set(key, object)
  }
  await client.unlink('c/f2')
  await rig.settle()
  // The last writing never came to be.
  const get = memory.get.bind(memory)
  memory.get = (space, key, options) => {
    const object = space === 'dirs' ? former.get(key) : undefined
    return object ? Promise.resolve(object) : get(space, key, options)
  }
  const { merged } = await lose()
  expect(await shown()).toEqual({ ...NEW, 'c/f2': 'new bytes' })
  expect(merged.doubts.items.map(({ path }) => path).sort()).toEqual(['a/f1', 'b/hard1'])
})

test('P1, P5: a directory was renamed over what SOURCE has under the new name yet', async () => {
  await start(
    (source) => {
      directories(source)
      mkdirSync(join(source, 'new'))
    },
    { sourceReadonly: true },
  )
  await client.overwrite('d/seen', 2, 'SEEN')
  await client.rename('d', 'new')
  const { merged } = await lose()
  expect(merged.doubts.items).toEqual([
    { path: 'new', reason: 'SOURCE has a directory there, of which nothing is shown' },
  ])
  expect(await shown()).toMatchObject(all('new', 'd'))
  expect(await client.exists('d')).toBe(false)
})
