import { constants } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import { CHUNK_BYTES } from '../../../src/content/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import type { Answer, Entry, OpenAnswer, RequestContext } from '../../../src/fuse/operations.ts'
import type { Overlay } from '../../../src/overlay/index.ts'

type Made = { entry: Entry; open: OpenAnswer }

const make = (overlay: Overlay, request: RequestContext): Answer<Made> =>
  overlay.tmpfile(request, 1n, 0o640, constants.O_RDWR)

const naming =
  (node: bigint) =>
  (overlay: Overlay, request: RequestContext): Answer<Entry> =>
    overlay.link(request, node, 1n, Buffer.from('named'))

let rig: Rig
let client: Client

async function start(mode: Mode): Promise<void> {
  rig = await Rig.start({ mode })
  client = new Client(rig)
}

afterEach(() => rig.stop())

async function expectNothingLeft(): Promise<void> {
  expect(await client.list(1n)).toEqual([])
  expect(rig.held).toEqual([])
  await expectSettled(rig)
}

async function letGo({ entry, open }: Made): Promise<void> {
  await client.close(entry.nodeId, open.handle)
  client.forgetAll()
}

// What a crash leaves of a file that is made without a name (O_TMPFILE).
describe.each([
  ['mirror', 'overlay.tmpfile.made'],
  ['mirror', 'overlay.tmpfile.noted'],
  ['mirror', 'overlay.tmpfile.held'],
  ['drain', 'overlay.create.committed'],
] as const)('a file made without a name in %s, a crash at %s', (mode, point) => {
  test('P7: the next worker makes it once; it outlives that one, too, and goes when it is closed', async () => {
    await start(mode)
    const unique = await rig.cutShort(point, make)
    await rig.restart('worker')
    const made = await rig.perform(make, {}, unique)
    expect(made.entry.attributes).toMatchObject({ nlink: 0, mode: 0o100640, size: 0 })
    await client.write(made.entry.nodeId, 0, 'nameless')
    await rig.restart('worker')
    expect((await client.read(made.entry.nodeId)).toString()).toBe('nameless')
    expect(await client.list(1n)).toEqual([])
    await letGo(made)
    await expectNothingLeft()
  })

  test('P2: a new mount finds nothing of it', async () => {
    await start(mode)
    await rig.cutShort(point, make)
    await rig.restart('mount')
    await expectNothingLeft()
  })
})

describe.each([
  ['mirror', 'overlay.link.intended', false],
  ['mirror', 'overlay.link.effect', true],
  ['drain', 'overlay.link.committed', true],
] as const)('its first name in %s, a crash at %s', (mode, point, lasts) => {
  async function cutShort(): Promise<{ made: Made; unique: bigint }> {
    const made = await rig.perform(make)
    await client.write(made.entry.nodeId, 0, 'named now')
    return { made, unique: await rig.cutShort(point, naming(made.entry.nodeId)) }
  }

  test('P7: the next worker gives it, in effect once, and the file goes on', async () => {
    await start(mode)
    const { made, unique } = await cutShort()
    const { nodeId } = made.entry
    await rig.restart('worker')
    const named = await rig.perform(naming(nodeId), {}, unique)
    expect(named).toMatchObject({ nodeId, attributes: { nlink: 1 } })
    expect(rig.held).toEqual([])
    await client.write(nodeId, 0, 'NAMED')
    expect(await client.readPath('named')).toBe('NAMED now')
    await letGo(made)
    await rig.migrate()
    await rig.settle()
    await expectSettled(rig)
    expect(await client.readPath('named')).toBe('NAMED now')
  })

  test(`P2: a new mount finds it ${lasts ? 'under that name' : 'gone'}`, async () => {
    await start(mode)
    await cutShort()
    await rig.restart('mount')
    if (!lasts) return expectNothingLeft()
    expect(await client.readPath('named')).toBe('named now')
    await rig.migrate()
    await rig.settle()
    await expectSettled(rig)
  })
})

/** Several chunks, with a hole, so that it takes more than one step to bring it over. */
async function madeInMirror(): Promise<Made> {
  await start('mirror')
  const made = await rig.perform(make)
  await client.write(made.entry.nodeId, 0, 'made in mirror')
  await client.write(made.entry.nodeId, 3 * CHUNK_BYTES + 5, 'and the end')
  await rig.setMode('drain')
  return made
}

const WHOLE = Buffer.concat([
  Buffer.from('made in mirror'),
  Buffer.alloc(3 * CHUNK_BYTES + 5 - 14),
  Buffer.from('and the end'),
])

describe.each([
  ['overlay.tmpfile.taken', false],
  ['content.preserve.written', false],
  ['content.preserve.committed', false],
  ['overlay.tmpfile.brought', false],
  ['overlay.link.committed', true],
] as const)('made in mirror and named in drain, a crash at %s', (point, lasts) => {
  test('P7: the next worker gives the name, and the file goes on', async () => {
    const made = await madeInMirror()
    const { nodeId } = made.entry
    const unique = await rig.cutShort(point, naming(nodeId))
    await rig.restart('worker')
    expect(await client.read(nodeId)).toEqual(WHOLE)
    await rig.perform(naming(nodeId), {}, unique)
    expect(rig.held).toEqual([])
    await letGo(made)
    await rig.migrate()
    await rig.settle()
    await expectSettled(rig)
    expect(await client.readPath('named')).toBe(WHOLE.toString())
  })

  test(`P2: a new mount finds it ${lasts ? 'under that name' : 'gone'}`, async () => {
    const made = await madeInMirror()
    await rig.cutShort(point, naming(made.entry.nodeId))
    await rig.restart('mount')
    if (!lasts) return expectNothingLeft()
    expect(await client.readPath('named')).toBe(WHOLE.toString())
    await rig.migrate()
    await rig.settle()
    await expectSettled(rig)
  })
})

test.each(['observe', 'mirror', 'prefer-store', 'drain', 'store-only'] as const)(
  'P6: in %s nothing is left of one that got no name, with the worker that made it alive',
  async (mode) => {
    await start(mode === 'store-only' ? 'drain' : mode)
    if (mode === 'store-only') {
      await rig.migrate()
      await rig.settle()
      await rig.setMode('store-only')
    }
    const made = await rig.perform(make)
    await client.write(made.entry.nodeId, 0, Buffer.alloc(3 << 20, 1))
    await client.close(made.entry.nodeId, made.open.handle)
    client.forgetAll()
    await expectNothingLeft()
  },
)
