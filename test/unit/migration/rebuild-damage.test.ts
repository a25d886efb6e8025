import { hash } from 'node:crypto'
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { wrongName } from '../../../src/catalog/index.ts'
import { CHUNK_BYTES } from '../../../src/content/index.ts'
import type { KeySpace, StoredObject } from '../../../src/store/contract.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { foundTree } from '../../support/rig/found-tree.ts'
import { Rig } from '../../support/rig/rig.ts'
import { writeSparse } from '../../support/sparse.ts'

const RUNS = Number(process.env.FERRYFS_RUNS ?? 25)
const SPACES = ['files', 'chunks', 'dirs'] as const

interface Kept {
  readonly space: KeySpace
  readonly key: string
  readonly object: StoredObject
}

/** What a migrated tree is in the store, and what a rebuild of that shows. */
let objects: Kept[]
let lease: StoredObject
let truth: Record<string, string>

beforeAll(async () => {
  const rig = await Rig.start({
    mode: 'drain',
    shardEntries: 4,
    fill: (source) => {
      for (const name of ['d', 'd/below', 'many', 'empty']) mkdirSync(join(source, name))
      for (let n = 0; n < 12; n += 1) writeFileSync(join(source, `many/f${n}`), `many ${n}`)
      writeFileSync(join(source, 'd/below/f'), 'deep')
      writeFileSync(join(source, 'd/chunks'), Buffer.alloc(3000, 7))
      symlinkSync('d/below', join(source, 'link'))
      linkSync(join(source, 'd/below/f'), join(source, 'd/second'))
      writeSparse(join(source, 'd/pages'), 1100 * CHUNK_BYTES, [
        { at: 1099 * CHUNK_BYTES, bytes: Buffer.from('end') },
      ])
    },
  })
  await rig.migrate()
  await rig.settle()
  const { memory } = rig.world
  objects = []
  for (const space of SPACES) {
    for await (const key of memory.keys(space)) {
      const object = await memory.get(space, key)
      if (object) objects.push({ space, key, object })
    }
  }
  objects.sort((a, b) => (a.space + a.key < b.space + b.key ? -1 : 1))
  lease = (await memory.get('meta', 'namespace')) ?? expect.unreachable()
  await rig.stop()
  const whole = await rebuild(new Map())
  expect(whole.failures).toEqual([])
  truth = whole.tree
  expect(Object.keys(truth)).toHaveLength(4 + 12 + 5)
}, 60_000)

afterAll(() => {
  objects = []
})

/** What is in the place of an object, by its number; undefined: nothing. */
type Damages = ReadonlyMap<number, StoredObject | undefined>

async function rebuild(damages: Damages) {
  const memory = new MemoryStore()
  await memory.put('meta', 'namespace', lease)
  for (const [nth, { space, key, object }] of objects.entries()) {
    const now = damages.has(nth) ? damages.get(nth) : object
    if (now) await memory.put(space, key, now)
  }
  const { rig, result } = await Rig.rebuilt(memory, true)
  try {
    for (const { ino } of rig.catalog.scan()) {
      for (const { name } of rig.catalog.dirents.all(ino)) expect(wrongName(name)).toBeUndefined()
      if (ino !== 1n) expect(rig.catalog.links.pathOf(ino), 'a file without a place').toBeDefined()
    }
    const { differences } = await rig.verify()
    return { failures: result.failures, differences, tree: await foundTree(rig) }
  } finally {
    await rig.stop()
  }
}

const at = fc.nat()
type Act = (object: StoredObject, others: readonly Kept[]) => StoredObject | undefined

/** What a disk or a node does to an object. */
const damage: fc.Arbitrary<Act> = fc.oneof(
  fc.constant<Act>(() => undefined),
  at.map<Act>((place) => (object) => ({ ...object, value: flipped(object.value, place) })),
  at.map<Act>((place) => (object) => ({
    ...object,
    value: object.value.subarray(0, place % (object.value.length || 1)),
  })),
  fc
    .uint8Array({ maxLength: 40 })
    .map<Act>((bytes) => (object) => ({ ...object, value: Buffer.from(bytes) })),
  at.map<Act>((other) => (_, others) => others[other % others.length]?.object),
  at.map<Act>((nth) => (object) => {
    const names = Object.keys(object.metadata)
    const { [names[nth % names.length] ?? '']: __, ...metadata } = object.metadata
    return { ...object, metadata }
  }),
)

const hostile = fc.oneof(
  fc.json(),
  fc.constantFrom(
    '".."',
    '"a/b"',
    '""',
    '-1',
    '1',
    '0',
    '9007199254740993',
    '"18446744073709551615"',
    '"1"',
    '[]',
    'null',
  ),
  fc.constantFrom(
    '"\\u0000"',
    '{}',
    `"${'n'.repeat(300)}"`,
    '4096',
    '65536',
    '"99999999999999999999"',
    '[[[[[]]]]]',
  ),
)

/** What only somebody who means it does: the checksum holds. */
const forgery: fc.Arbitrary<Act> = fc.oneof(
  fc.tuple(at, hostile).map<Act>(
    ([place, value]) =>
      (object) =>
        forged(object, place, value),
  ),
  fc
    .tuple(at, fc.constantFrom('0', '1', '-1', '2', '7777777', '999999999999999', '99999999999999999999'))
    .map<Act>(([nth, value]) => (object) => {
      const names = Object.keys(object.metadata).filter((name) => name !== 'ferry-sha256')
      const name = names[nth % (names.length || 1)]
      return name === undefined ? object : { ...object, metadata: { ...object.metadata, [name]: value } }
    }),
  hostile.map<Act>((text) => (object) => sealed(object, Buffer.from(text))),
)

function flipped(value: Buffer, place: number): Buffer {
  const damaged = Buffer.from(value)
  if (damaged.length > 0)
    damaged[place % damaged.length] = (damaged[place % damaged.length] ?? 0) ^ (1 << (place % 8))
  return damaged
}

function sealed(object: StoredObject, value: Buffer): StoredObject {
  return { ...object, value, metadata: { ...object.metadata, 'ferry-sha256': hash('sha256', value) } }
}

/** Puts a value into some place of what the object has as JSON, and lets the names there trade places with others. */
function forged(object: StoredObject, place: number, value: string): StoredObject {
  let json: unknown
  try {
    json = JSON.parse(object.value.toString())
  } catch {
    return sealed(object, Buffer.from(value))
  }
  const places: Array<() => void> = []
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return
    for (const key of Object.keys(node)) {
      places.push(() => Object.assign(node, { [key]: JSON.parse(value) }))
      if (Array.isArray(node)) places.push(() => node.push(structuredClone(node[0])))
      visit(Reflect.get(node, key))
    }
  }
  visit(json)
  places[place % places.length]?.()
  return sealed(object, Buffer.from(JSON.stringify(json)))
}

function damagesOf(acts: ReadonlyArray<readonly [number, Act]>): Damages {
  const damages = new Map<number, StoredObject | undefined>()
  for (const [place, act] of acts) {
    const nth = place % objects.length
    const kept = objects[nth]
    if (!kept) continue
    damages.set(
      nth,
      act(
        kept.object,
        objects.filter(({ space }) => space === kept.space),
      ),
    )
  }
  return damages
}

const some = (act: fc.Arbitrary<Act>) => fc.array(fc.tuple(at, act), { minLength: 1, maxLength: 4 })

describe('whatever happens to objects of a store', () => {
  test('P1, P2: status 0 says that the tree is what it was; what is shown otherwise is an error', async () => {
    await fc.assert(
      fc.asyncProperty(some(damage), async (acts) => {
        const damages = damagesOf(acts)
        const { failures, differences, tree } = await rebuild(damages)
        // A chunk is looked at when it is read.
        if (failures.length === 0 && differences.length === 0) expect(tree).toEqual(truth)
        for (const [path, what] of Object.entries(tree)) {
          if (what === truth[path]) continue
          expect([path, what]).toEqual([path, 'EIO'])
          expect(failures.length + differences.length).toBeGreaterThan(0)
        }
        if (Object.keys(truth).some((path) => !(path in tree))) expect(failures.length).toBeGreaterThan(0)
      }),
      { numRuns: RUNS },
    )
  }, 300_000)

  test('P6: also what somebody forged ends, in a tree that can be walked, with names that can be', async () => {
    await fc.assert(
      fc.asyncProperty(some(forgery), async (acts) => {
        const { tree } = await rebuild(damagesOf(acts))
        expect(Object.keys(tree).length).toBeLessThan(100)
      }),
      { numRuns: RUNS },
    )
  }, 300_000)
})
