import { cpSync, linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// More than a turn of the event loop has room for (later.ts).
const MANY = Array.from({ length: 200 }, (_, index) => `d/many/n${index}`)
const FILES = ['d/x', 'd/e/y', 'd/e/f/z', 'keep']

let rig: Rig
let client: Client

afterEach(() => rig.stop())

/** Everything is stored, and the kernel knows all of it: nothing is forgotten. */
async function start(files: readonly string[], links: ReadonlyArray<readonly [string, string]> = []) {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      for (const file of files) {
        mkdirSync(dirname(join(source, file)), { recursive: true })
        writeFileSync(join(source, file), file)
      }
      for (const [from, to] of links) {
        mkdirSync(dirname(join(source, to)), { recursive: true })
        linkSync(join(source, from), join(source, to))
      }
    },
  })
  client = new Client(rig)
  await rig.migrate()
  await rig.settle()
  for (const file of [...files, ...links.map(([, to]) => to)]) await client.node(file)
}

async function removed(): Promise<void> {
  rmSync(join(rig.source, 'd'), { recursive: true })
  expect(await client.exists('d')).toBe(false)
}

/** The catalog has no file that no name leads to, and the volume can be left. */
async function expectLeft(paths: readonly string[]): Promise<void> {
  const totals = rig.catalog.lists.totals()
  expect({ known: totals.files, stored: totals.stored }).toEqual({
    known: paths.length,
    stored: paths.length,
  })
  expect((await rig.verify()).differences).toEqual([])
  await rig.setMode('store-only')
  for (const path of paths) expect(await client.exists(path)).toBe(true)
  // What nobody knows any more leaves the store, too.
  client.forgetAll()
  await rig.settle()
  expect([...rig.catalog.lists.orphans()]).toEqual([])
  await expectSettled(rig)
}

describe('P4: a directory that SOURCE lost while the kernel knows what is in it', () => {
  test('goes with all that was below it, at any depth', async () => {
    await start(FILES)
    await removed()
    await rig.migrate()
    await rig.settle()
    await expectLeft(['keep'])
  })

  test('P6: goes with very many names in turns', async () => {
    await start([...FILES, ...MANY])
    await removed()
    expect(rig.catalog.lists.totals().files).toBeGreaterThan(1)
    await rig.settle()
    await expectLeft(['keep'])
  })

  test.each(['worker', 'mount'] as const)(
    'P6: goes on with that after a death, in the next %s',
    async (next) => {
      await start([...FILES, ...MANY])
      rig.dieAt('overlay.below.dropping')
      await removed()
      await rig.untilDead()
      await rig.restart(next)
      await rig.settle()
      await expectLeft(['keep'])
    },
  )

  test('and that was replaced by a copy of itself is met anew', async () => {
    await start(FILES)
    cpSync(join(rig.source, 'd'), join(rig.source, 'copy'), { recursive: true })
    rmSync(join(rig.source, 'd'), { recursive: true })
    cpSync(join(rig.source, 'copy'), join(rig.source, 'd'), { recursive: true })
    rmSync(join(rig.source, 'copy'), { recursive: true })
    await client.tree()
    await rig.migrate()
    await rig.settle()
    expect(await client.readPath('d/e/f/z')).toBe('d/e/f/z')
    await expectLeft(FILES)
  })

  test('and a file in it is open and was just written', async () => {
    await start(FILES)
    const node = await client.node('d/e/y')
    const handle = await client.open(node)
    await client.write(node, 0, 'new')
    await removed()
    await client.close(node, handle).catch(() => undefined)
    await rig.migrate()
    await rig.settle()
    await expectLeft(['keep'])
  })

  test('P3: leaves a file its other names, and drain empties the volume', async () => {
    await start(FILES, [
      ['d/e/y', 'k/y'],
      ['d/x', 'd/e/x'],
    ])
    await removed()
    await rig.setMode('drain')
    await rig.migrate()
    await rig.migrate()
    await rig.settle()
    for (let sweep = 0; sweep < 3; sweep += 1) await rig.reap()
    expect(readdirSync(rig.source)).toEqual([])
    expect(await client.readPath('k/y')).toBe('d/e/y')
    expect((await client.lookup('k/y'))?.attributes.nlink).toBe(1)
    await expectLeft(['keep', 'k/y'])
  })

  test('P2: takes nothing with it that was changed through the mount in drain', async () => {
    await start(FILES)
    await rig.setMode('drain')
    await client.overwrite('d/e/y', 0, 'D')
    await client.create('d/e/f/new', 'new')
    await removedBelow('d')
    expect(await client.readPath('d/e/y')).toBe('D/e/y')
    expect(await client.readPath('d/e/f/new')).toBe('new')
    await rig.migrate()
    await rig.migrate()
    await rig.settle()
    await expectLeft(['d/e/y', 'd/e/f/new', 'keep'])
  })
})

async function removedBelow(name: string): Promise<void> {
  rmSync(join(rig.source, name), { recursive: true })
  for (let nth = 0; nth < 3; nth += 1) await client.tree().catch(() => undefined)
}
