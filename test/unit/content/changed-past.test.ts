import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { CHUNK_BYTES, takeOver } from '../../../src/content/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

// A copy made the catalog the authority on the file, wherever writes go to the store, and nobody looked at the volume again.
describe.each(['mirror', 'prefer-store', 'drain'] as const)('%s over a read-only volume', (mode) => {
  test.each(['a read', 'a migration'])(
    'P1: after %s had the file copied, a change past the overlay is seen and copied again',
    async (how) => {
      rig = await Rig.start({
        mode,
        sourceReadonly: true,
        fill: (source) => writeFileSync(join(source, 'f'), 'before'),
      })
      const client = new Client(rig)
      expect(await client.readPath('f')).toBe('before')
      if (how === 'a migration') await rig.migrate()
      await rig.settle()
      writeFileSync(join(rig.source, 'f'), 'changed past the overlay')
      expect(await client.readPath('f')).toBe('changed past the overlay')
      await rig.migrate()
      await rig.settle()
      expect((await rig.verify()).differences).toEqual([])
      await rig.setMode('store-only')
      expect(await client.readPath('f')).toBe('changed past the overlay')
    },
  )
})

// The copy that was under way became the file's base, though the catalog had taken the file over with the change in it: what had
// been read was gone again. Found by the interleavings.
test('P1: a change past the overlay while a file is copied and then written is not taken back by the copy', async () => {
  const before = Buffer.alloc(CHUNK_BYTES + 10, 'a')
  const changed = Buffer.from(before).fill('b', 0, 10)
  rig = await Rig.start({
    mode: 'prefer-store',
    sourceReadonly: true,
    fill: (source) => writeFileSync(join(source, 'f'), before),
  })
  const client = new Client(rig)
  const node = await client.node('f')
  let written: Promise<unknown> | undefined
  atPoint('content.upload.object-stored', () => {
    atPoint('content.upload.object-stored', undefined)
    writeFileSync(join(rig.source, 'f'), changed)
    written = client.write(node, before.length, 'more')
  })
  await rig.migrate()
  await written
  const wanted = `${changed}more`
  expect(await client.readPath('f')).toBe(wanted)
  await rig.settle()
  expect(await client.readPath('f')).toBe(wanted)
  expect((await rig.verify()).differences).toEqual([])
})

// The store kept the old version, though counted as stored, until somebody asked for a migration.
describe.each(['mirror', 'prefer-store'] as const)('in %s, of a file that is in the store', (mode) => {
  async function changed(): Promise<Client> {
    rig = await Rig.start({ mode, fill: (source) => writeFileSync(join(source, 'f'), 'before') })
    await rig.migrate()
    await rig.settle()
    writeFileSync(join(rig.source, 'f'), 'changed past the overlay')
    return new Client(rig)
  }

  test('P4: a change past the overlay reaches the store because it was read', async () => {
    const client = await changed()
    expect(await client.readPath('f')).toBe('changed past the overlay')
    expect(rig.catalog.lists.unstoredCount()).toBe(1)
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
    expect(rig.catalog.lists.unstoredCount()).toBe(0)
  })

  test('P4: and is owed from then on, whoever is killed', async () => {
    const client = await changed()
    rig.world.inject({ fault: 'unavailable' })
    await client.readPath('f')
    await rig.restart('mount')
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
  })

  test('P4: a migration that cannot copy it does not end as done', async () => {
    await changed()
    vi.spyOn(rig.context.uploader, 'upload').mockRejectedValue(new FsError('EIO', 'read f'))
    expect(await rig.migrate()).toMatchObject({ remaining: 1 })
  })

  test('P2: with no room in the catalog it is read all the same, and copied another time', async () => {
    const client = await changed()
    const node = await client.node('f')
    fillDisk(rig.catalogPath)
    expect((await client.read(node)).toString()).toBe('changed past the overlay')
    freeDisk(rig.catalogPath)
    await client.read(node)
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
  })
})

// The file was given back to the volume because of the change, and taken over again with it, all while a copy of what had been
// before was under way: that copy became its base, or passed for the legacy file, which then went.
describe('in drain, a change past the overlay that is seen while what was before is copied', () => {
  const before = Buffer.alloc(CHUNK_BYTES + 10, 'a')
  const changed = Buffer.from(before).fill('b', 0, 10)

  async function seenWhileCopied(): Promise<{ client: Client; node: bigint; goOn: () => void }> {
    rig = await Rig.start({ mode: 'drain', fill: (source) => writeFileSync(join(source, 'f'), before) })
    const client = new Client(rig)
    const node = await client.node('f')
    takeOver(rig.context, node)
    const { promise: held, resolve: goOn } = Promise.withResolvers<void>()
    const { store } = rig.context
    const real = store.put.bind(store)
    const put = vi.spyOn(store, 'put').mockImplementation(async (space, ...rest) => {
      if (space === 'files') await held
      return real(space, ...rest)
    })
    rig.context.carrier.want(node)
    await clock.untilTrue(() => put.mock.calls.some(([space]) => space === 'files'))
    writeFileSync(join(rig.source, 'f'), changed)
    expect(await client.readPath('f')).toBe(changed.toString())
    return { client, node, goOn }
  }

  test('P1: stays when the file is written', async () => {
    const { client, node, goOn } = await seenWhileCopied()
    await client.write(node, before.length, 'more')
    goOn()
    await rig.settle()
    expect(await client.readPath('f')).toBe(`${changed}more`)
  })

  test('P3: stays when the legacy file goes', async () => {
    const { client, node, goOn } = await seenWhileCopied()
    takeOver(rig.context, node)
    goOn()
    await rig.settle()
    await rig.reap()
    expect(await client.readPath('f')).toBe(changed.toString())
    await rig.migrate()
    expect(existsSync(join(rig.source, 'f'))).toBe(false)
    expect(await client.readPath('f')).toBe(changed.toString())
  })
})
