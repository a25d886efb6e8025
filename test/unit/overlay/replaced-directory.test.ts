import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const NAMES = ['f1', 'f2', 'f3']
let rig: Rig

afterEach(() => rig.stop())

const onSource = (name: string): string => join(rig.source, name)

/** In drain, with a file of the directory changed through the overlay: the catalog has the authority on both. */
async function started(): Promise<Client> {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      mkdirSync(join(source, 'd/sub'), { recursive: true })
      for (const name of NAMES) writeFileSync(join(source, 'd', name), `content of ${name}`)
      writeFileSync(join(source, 'd/sub/deep'), 'deep')
    },
  })
  const client = new Client(rig)
  await client.overwrite('d/f1', 0, 'CONTENT')
  await client.create('d/new', 'new')
  return client
}

/** By a copy of itself, as a restore from a backup or a move to another disk does it. */
function replace(): void {
  cpSync(onSource('d'), onSource('d2'), { recursive: true, preserveTimestamps: true })
  rmSync(onSource('d'), { recursive: true })
  renameSync(onSource('d2'), onSource('d'))
}

const names = async (client: Client, node: bigint): Promise<string[]> =>
  (await client.list(node))
    .map(String)
    .filter((name) => !/^\.+$/.test(name))
    .sort()

async function expectAll(client: Client): Promise<void> {
  expect(await client.readPath('d/f1')).toBe('CONTENT of f1')
  for (const name of NAMES.slice(1)) expect(await client.readPath(`d/${name}`)).toBe(`content of ${name}`)
  expect(await client.readPath('d/new')).toBe('new')
  expect(await client.readPath('d/sub/deep')).toBe('deep')
  expect(await names(client, await client.node('d'))).toEqual([...NAMES, 'new', 'sub'])
}

/** The copy has the file as it was before it was changed through the overlay: that is listed until somebody removes it. */
async function expectHidden(name: string): Promise<void> {
  await rig.migrate()
  expect((await rig.verify()).differences).toEqual([
    {
      path: 'd',
      kind: 'unreadable',
      detail: expect.stringContaining(`'${name}' in it: SOURCE has something else`),
    },
  ])
  expect(rig.unreadable).toEqual([expect.objectContaining({ path: `d/${name}` })])
  rmSync(onSource(`d/${name}`))
  await rig.migrate()
  expect(rig.unreadable).toEqual([])
  expect((await rig.verify()).differences).toEqual([])
}

test.each(['mount', 'worker', undefined] as const)(
  'P1, P5: a directory of the catalog that is replaced by a copy past the overlay shows what is in that (restart: %s)',
  async (restart) => {
    const client = await started()
    for (const name of NAMES) await client.node(`d/${name}`)
    replace()
    if (restart) await rig.restart(restart)
    await expectAll(client)
    await rig.migrate()
    await rig.settle()
    await expectAll(client)
    await expectHidden('f1')
    await expectSettled(rig)
  },
)

test('P1, P5: so does one by a directory that has been seen under another name', async () => {
  const client = await started()
  cpSync(onSource('d'), onSource('d2'), { recursive: true, preserveTimestamps: true })
  expect(await client.readPath('d2/f2')).toBe('content of f2')
  rmSync(onSource('d'), { recursive: true })
  renameSync(onSource('d2'), onSource('d'))
  await expectAll(client)
  expect(await names(client, ROOT_INO)).toEqual(['d'])
  await expectAll(client)
  await rig.migrate()
  await rig.settle()
  await expectAll(client)
  await expectHidden('f1')
})

test('P1, P5: one that is moved away, with an empty one in its place for a while, is whole once it is back', async () => {
  const client = await started()
  await rig.settle()
  await rig.reap()
  expect(existsSync(onSource('d/f1'))).toBe(false)
  renameSync(onSource('d'), onSource('t'))
  mkdirSync(onSource('d'))
  await client.list(ROOT_INO)
  await rig.reap()
  rmSync(onSource('d'), { recursive: true })
  renameSync(onSource('t'), onSource('d'))
  await rig.reap()
  await expectAll(client)
  await rig.migrate()
  await expectAll(client)
  expect((await rig.verify()).differences).toEqual([])
})

test('P3: nothing of what lies in its place goes from the volume before it is stored', async () => {
  const client = await started()
  await rig.migrate()
  await rig.reap()
  expect(existsSync(onSource('d'))).toBe(false)
  mkdirSync(onSource('d'))
  writeFileSync(onSource('d/f2'), 'put there by somebody')
  await rig.migrate()
  await rig.reap()
  expect(readdirSync(onSource('d'))).toEqual(['f2'])
  await expectAll(client)
})
