import { afterEach, describe, expect, test } from 'vitest'
import { fileId } from '../../../src/catalog/index.ts'
import { shardKey } from '../../../src/content/index.ts'
import { MadeStore, named, shardOfName } from '../../support/made-store.ts'
import { foundTree } from '../../support/rig/found-tree.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig | undefined
const NEWER = { epoch: 2, version: 0 }

afterEach(() => rig?.stop())

/** What a rebuild of the store says, and what a mount of that shows. */
async function rebuilt(store: MadeStore, acceptLosses = false) {
  const { rig: made, result } = await Rig.rebuilt(store.memory, true, acceptLosses)
  rig = made
  const lines = result.failures.map(({ kind, path, reason }) => `${kind} ${path}: ${reason}`)
  return { lines, tree: await foundTree(made), made }
}

const missingIn = async (made: Rig): Promise<string[]> =>
  (await made.verify()).differences.filter(({ kind }) => kind === 'missing').map(({ path }) => path)

describe('a file in two records', () => {
  test('P2: is where the newer one has it, and the other is listed and written anew', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.directory({ ino: 2n }, [named('old', 9n, 'f')])
    await store.directory({ ino: 3n }, [named('new', 9n, 'f')])
    await store.root([named('a', 2n), named('b', 3n)])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/a': 'dir', '/b': 'dir', '/b/new': 'text' })
    expect(lines).toEqual([expect.stringMatching(/^doubt a\/old: a newer record has it elsewhere.*b\/new$/)])
    await made.settle()
    expect((await made.verify()).differences).toEqual([])
    await made.stop()
    const again = await Rig.rebuilt(store.memory, true)
    rig = again.rig
    expect(again.result.failures).toEqual([])
    expect(await foundTree(rig)).toEqual(tree)
  })

  test('P2: with as many names as a record says has the newest of them', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.directory({ ino: 4n }, [named('gone', 9n, 'f')])
    await store.directory({ ino: 2n }, [named('one', 9n, 'f')])
    await store.directory({ ino: 3n }, [named('two', 9n, 'f', { links: 2 })])
    await store.root([named('a', 2n), named('b', 3n), named('c', 4n)])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/a': 'dir', '/a/one': 'text', '/b': 'dir', '/b/two': 'text', '/c': 'dir' })
    expect(lines).toHaveLength(1)
    expect(made.catalog.get(9n)?.nlink).toBe(2)
  })

  test('P2: which a newer record says to have left one is in the other, however many names it has', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    const from = [{ directory: fileId({ ino: 2n, generation: 2 }), name: Buffer.from('left') }]
    await store.directory({ ino: 2n }, [named('left', 9n, 'f'), named('stays', 9n, 'f')])
    await store.directory({ ino: 3n }, [named('new', 9n, 'f', { links: 2, from })])
    await store.root([named('a', 2n), named('b', 3n)])
    const { lines, tree } = await rebuilt(store)
    expect(Object.keys(tree)).toEqual(['/a', '/b', '/a/stays', '/b/new'])
    expect(lines).toEqual([expect.stringMatching(/^doubt a\/left: /)])
  })

  test('P2: of which only one that is about to lose it leads to it is found there', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.file({ ino: 8n }, 'g', 'other')
    await store.directory({ ino: 2n }, [named('x', 8n, 'g')], { leaving: [named('x', 9n, 'f')] })
    await store.root([named('a', 2n)])
    const { lines, tree } = await rebuilt(store)
    expect(tree).toEqual({ '/a': 'dir', '/a/x': 'other', '/a/x.9': 'text' })
    expect(lines).toHaveLength(1)
  })
})

describe('directories', () => {
  test('P2: that two records name have the place of the newer, with all that is in them', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.directory({ ino: 5n }, [named('f', 9n, 'f')])
    await store.directory({ ino: 2n }, [named('sub', 5n)])
    await store.directory({ ino: 3n }, [named('moved', 5n)])
    await store.root([named('a', 2n), named('b', 3n)])
    const { lines, tree } = await rebuilt(store)
    expect(tree).toEqual({ '/a': 'dir', '/b': 'dir', '/b/moved': 'dir', '/b/moved/f': 'text' })
    expect(lines).toEqual([expect.stringMatching(/^doubt a\/sub: .*b\/moved$/)])
  })

  test('P2: that name one another in a circle are all there, once', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.root([named('a', 2n), named('b', 3n)])
    await store.directory({ ino: 2n }, [named('b', 3n), named('f', 9n, 'f')])
    await store.directory({ ino: 3n }, [named('a', 2n), named('root', 1n, undefined, { generation: 0 })])
    const { lines, tree } = await rebuilt(store)
    const paths = Object.keys(tree)
    expect(paths.filter((path) => /(^|\/)[ab]$/.test(path))).toHaveLength(2)
    expect(Object.values(tree)).toContain('text')
    expect(lines.length).toBeGreaterThan(0)
    expect(paths.some((path) => path.includes('root'))).toBe(false)
  })

  test('P6: in a long circle, and each with many parents, take one look each', async () => {
    const store = new MadeStore()
    const many = Array.from({ length: 60 }, (_, nth) => BigInt(nth + 10))
    await store.root(many.map((ino) => named(`d${ino}`, ino)))
    for (const ino of many)
      await store.directory(
        { ino },
        many.map((other) => named(`d${other}`, other)),
      )
    const { tree, lines } = await rebuilt(store)
    expect(Object.values(tree).filter((what) => what === 'dir')).toHaveLength(60)
    // A line for each name but those that count, and at most one for each circle.
    expect(lines.length).toBeLessThanOrEqual(60 * 61)
  })

  test('P1: whose record is lost are errors, not empty directories, and listed', async () => {
    const store = new MadeStore()
    await store.root([named('lost', 7n), named('kept', 2n)])
    await store.directory({ ino: 2n }, [])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/lost': 'EIO', '/kept': 'dir' })
    expect(lines).toEqual([expect.stringMatching(/^lost lost: .*directory record 7-7 is not in the store/)])
    expect(await missingIn(made)).toEqual(['lost'])
  })

  test('P1: a part of whose record is lost show the others, and that there may be more', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.directory({ ino: 2n }, [named('a', 9n, 'f')], { shards: 2 })
    await store.memory.delete('dirs', shardKey('2-2', 1, shardOfName(Buffer.from('a'), 2) ^ 1), NEWER)
    await store.root([named('d', 2n)])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/d': 'dir', '/d/a': 'text', '/d/': 'EIO' })
    expect(lines).toEqual([expect.stringMatching(/^lost d: 1 of 2 parts of its record are lost/)])
    expect(await missingIn(made)).toEqual(['d'])
    const name = Buffer.from('new')
    await expect(made.perform((overlay, request) => overlay.mkdir(request, 2n, name, 0o755))).rejects.toThrow(
      /1 of 2 parts/,
    )
    const lost = shardKey('2-2', 1, shardOfName(Buffer.from('a'), 2) ^ 1)
    expect(await store.memory.get('dirs', lost)).toBeUndefined()
  })

  test('P2: with the number of another get another number', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.directory({ ino: 5n, generation: 5 }, [named('f', 9n, 'f')])
    await store.directory({ ino: 5n, generation: 6 }, [])
    await store.root([named('old', 5n), named('new', 5n, undefined, { generation: 6 })])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/old': 'dir', '/new': 'dir', '/old/f': 'text' })
    expect(lines).toHaveLength(1)
    await made.settle()
    expect((await made.verify()).differences).toEqual([])
    const again = await Rig.rebuilt(store.memory)
    expect(again.result.failures).toEqual([])
    expect(await foundTree(again.rig)).toEqual(tree)
    await again.rig.stop()
  })
})

describe('a number that two files had, one after the other', () => {
  test('P2: is that of the newer; a directory that was removed gives way, with what is found in it alone', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.file({ ino: 5n, generation: 6 }, 'g', 'newer')
    await store.directory({ ino: 5n, generation: 5 }, [named('f', 9n, 'f')])
    await store.root([named('d', 5n), named('g', 5n, 'g', { generation: 6 })])
    const { lines, tree } = await rebuilt(store)
    expect(tree).toEqual({ '/d': 'dir', '/d/f': 'text', '/g': 'newer' })
    expect(lines).toEqual([expect.stringMatching(/^doubt d: another file has its inode number 5/)])
  })

  test('P2: is that of the one that is there, whatever names the other', async () => {
    const store = new MadeStore()
    await store.file({ ino: 5n, generation: 6 }, 'g', 'there')
    await store.root([
      named('directory', 5n),
      named('g', 5n, 'g', { generation: 6 }),
      named('file', 5n, 'h', { generation: 7 }),
    ])
    const { lines, tree } = await rebuilt(store)
    expect(tree).toEqual({ '/g': 'there' })
    expect(lines.map((line) => line.split(':')[0]).sort()).toEqual(['left out directory', 'left out file'])
  })
})

describe('a record that says what cannot be', () => {
  const TOO_LONG = 'n'.repeat(300)

  test.each(['', '.', '..', 'a/b', '/etc', 'a\0b', TOO_LONG])(
    'P1: the name %j comes in nowhere, and is listed',
    async (wrong) => {
      const store = new MadeStore()
      await store.file({ ino: 9n }, 'f', 'text')
      await store.file({ ino: 8n }, 'g', 'other')
      await store.directory({ ino: 2n }, [])
      await store.root([named(wrong, 9n, 'f'), named(wrong, 2n), named('g', 8n, 'g')])
      const { lines, tree, made } = await rebuilt(store)
      expect(tree).toEqual({ '/g': 'other' })
      expect(lines).toHaveLength(2)
      expect((await made.verify()).differences).toHaveLength(1)
    },
  )

  test.each([
    ['a size beyond its bytes', { 'ferry-size': '900000000' }],
    ['a size that no file has', { 'ferry-size': '9007199254740993' }],
    ['a negative size', { 'ferry-size': '-1' }],
    ['another inode', { 'ferry-ino': '77' }],
    ['another generation', { 'ferry-generation': '77' }],
    ['a directory', { 'ferry-mode': '40755' }],
    ['no type', { 'ferry-mode': '644' }],
    ['a manifest', { 'ferry-layout': 'chunked' }],
    ['a symlink with a NUL', { 'ferry-mode': '120777' }],
    ['a wild generation', { 'ferry-generation': '99999999999999999999' }],
  ])('P1: a file that says it is %s is an error and listed', async (_, forged) => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'te\0xt', forged)
    await store.file({ ino: 8n }, 'g', 'other')
    await store.root([named('f', 9n, 'f'), named('g', 8n, 'g')])
    const { lines, tree, made } = await rebuilt(store)
    expect(tree).toEqual({ '/f': 'EIO', '/g': 'other' })
    expect(lines).toEqual([expect.stringMatching(/^lost f: /)])
    expect(await missingIn(made)).toEqual(['f'])
  })

  test('P1: an object that two names of different files claim is one file', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    await store.root([named('a', 8n, 'f'), named('b', 9n, 'f'), named('c', 7n, 'f')])
    const { tree, lines } = await rebuilt(store)
    expect(tree).toEqual({ '/a': 'EIO', '/b': 'text', '/c': 'EIO' })
    expect(lines).toHaveLength(2)
  })

  test.each([
    ['more parts than any record has', { shards: 4096 * 2 }],
    ['three parts', { shards: 3 }],
    ['another inode', { ino: 77n }],
    ['the mode of a symlink', { mode: 0o120777 }],
  ])('P6: a directory with %s is lost, and costs nothing', async (_, header) => {
    const store = new MadeStore()
    await store.directory({ ino: 2n }, [])
    await store.header('2-2', { ino: 2n, generation: 2, ...header })
    await store.root([named('d', 2n)])
    const { tree } = await rebuilt(store)
    expect(tree).toEqual({ '/d': 'EIO' })
  })

  test('P6: a version beyond all that are written is no version', async () => {
    const store = new MadeStore()
    await store.file({ ino: 9n }, 'f', 'text')
    const object = await store.memory.get('files', 'f')
    if (!object) throw new Error('no object')
    await store.memory.put('files', 'f', { ...object, version: { epoch: 1, version: 2 ** 53 - 1 } })
    await store.root([named('f', 9n, 'f')])
    expect((await rebuilt(store)).tree).toEqual({ '/f': 'EIO' })
  })

  test('P6: a chain of two thousand directories is walked without end of memory or stack', async () => {
    const store = new MadeStore()
    const last = 2000n
    await store.root([named('d', 2n)])
    for (let ino = 2n; ino <= last; ino += 1n)
      await store.directory({ ino }, ino === last ? [] : [named('d', ino + 1n)])
    const { rig: made, result } = await Rig.rebuilt(store.memory, true)
    rig = made
    expect(result.failures).toEqual([])
    expect(result.directories).toBe(2000)
  })
})

test('P5: with losses accepted the tree is without them, and so are the records', async () => {
  const store = new MadeStore()
  await store.file({ ino: 9n }, 'f', 'text')
  await store.directory({ ino: 2n }, [named('a', 9n, 'f')], { shards: 2 })
  await store.memory.delete('dirs', shardKey('2-2', 1, shardOfName(Buffer.from('a'), 2) ^ 1), NEWER)
  await store.root([named('d', 2n), named('lost', 7n), named('gone', 8n, 'g')])
  const { lines, tree, made } = await rebuilt(store, true)
  expect(tree).toEqual({ '/d': 'dir', '/d/a': 'text' })
  expect(lines.map((line) => line.slice(0, 14)).sort()).toEqual([
    'left out d: 1 ',
    'left out gone:',
    'left out lost:',
  ])
  await made.settle()
  expect((await made.verify()).differences).toEqual([])
  const again = await Rig.rebuilt(store.memory)
  expect(again.result.failures).toEqual([])
  expect(await foundTree(again.rig)).toEqual(tree)
  await again.rig.stop()
})
