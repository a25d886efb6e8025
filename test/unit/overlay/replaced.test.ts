import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { RENAME_EXCHANGE } from '../../../src/sys/index.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { useDisk } from '../../support/rig/disk.ts'
import { Rig } from '../../support/rig/rig.ts'

const B = (name: string): Buffer => Buffer.from(name)
let rig: Rig

afterEach(async () => {
  useDisk(rig.root, undefined)
  await rig.stop()
})

test('P1: a rename over a file that goes from the volume while it is put into safe keeping finds nothing to replace', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      for (const name of ['new', 'old']) writeFileSync(join(source, name), name)
    },
  })
  const client = new Client(rig)
  await client.node('old')
  await client.node('new')
  const waiting: Array<() => void> = []
  useDisk(rig.root, { turn: (_, perform) => waiting.push(perform), verdict: () => 'ok' })
  const renamed = rig.perform((overlay, request) => overlay.rename(request, 1n, B('new'), 1n, B('old'), 0))
  expect(waiting).toHaveLength(1)
  rmSync(join(rig.source, 'old'))
  for (const perform of waiting) perform()
  await renamed
  useDisk(rig.root, undefined)
  expect(await client.readPath('old')).toBe('new')
})

test('P3: a file that is replaced from the very place where the volume has it leaves nothing there', async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      for (const name of ['a', 'b']) writeFileSync(join(source, name), name)
    },
  })
  const rename = (from: string, to: string, flags: number): Promise<void> =>
    rig.perform((overlay, request) => overlay.rename(request, 1n, B(from), 1n, B(to), flags))
  await rename('a', 'b', RENAME_EXCHANGE)
  await rename('a', 'b', 0)
  expect(await new Client(rig).readPath('b')).toBe('b')
  await rig.migrate()
  await rig.settle()
  await rig.reap()
  expect(readdirSync(rig.source)).toEqual([])
})

test('P1: an unlink that waits while the mode changes is done where the file is by then', async () => {
  rig = await Rig.start({ mode: 'mirror', fill: (source) => writeFileSync(join(source, 'f'), 'f') })
  const client = new Client(rig)
  await rig.migrate()
  await rig.settle()
  const node = await client.node('f')
  await rig.perform((overlay, request) => overlay.open(request, node, 0))
  const waiting: Array<() => void> = []
  useDisk(rig.root, { turn: (_, perform) => waiting.push(perform), verdict: () => 'ok' })
  const unlinked = rig.perform((overlay, request) => overlay.unlink(request, 1n, B('f')))
  expect(waiting).toHaveLength(1)
  useDisk(rig.root, undefined)
  await rig.setMode('store-only')
  for (const perform of waiting) perform()
  await unlinked
  expect(await client.exists('f')).toBe(false)
})

test('P4: a directory that is removed over a read-only volume, which keeps what was in it, leaves no record in the store', async () => {
  rig = await Rig.start({
    mode: 'drain',
    sourceReadonly: true,
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), 'f')
    },
  })
  await rig.migrate()
  await rig.settle()
  const node = await new Client(rig).node('d')
  await rig.perform((overlay, request) => overlay.unlink(request, node, B('f')))
  await rig.perform((overlay, request) => overlay.rmdir(request, 1n, B('d')))
  rig.overlay.forget(node, 1n << 32n)
  await rig.settle()
  expect((await accountFor(rig.catalog, rig.world.memory)).unowned).toEqual([])
})
