import { linkSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const NAMES = 200
let rig: Rig

afterEach(() => rig.stop())

const nameOf = (nth: number): string => (nth % 2 === 0 ? `l${nth}` : `d/l${nth}`)

function manyNames(source: string): void {
  mkdirSync(join(source, 'd'))
  writeFileSync(join(source, nameOf(0)), 'content')
  for (let nth = 1; nth < NAMES; nth += 1) linkSync(join(source, nameOf(0)), join(source, nameOf(nth)))
}

async function expectAllNames(on: Rig, content: string): Promise<void> {
  const client = new Client(on)
  const nodes = new Set<bigint>()
  for (let nth = 0; nth < NAMES; nth += 1) nodes.add(await client.node(nameOf(nth)))
  expect(nodes.size).toBe(1)
  expect((await client.read(await client.node(nameOf(0)), 0, 100)).toString()).toBe(content)
}

describe.each(['worker', 'mount'] as const)(
  'a file with many names, and a crash, then the next %s',
  (next) => {
    test.each(['mirror', 'drain'] as const)(
      'P4: at content.names.announced in %s all of them are in the store in the end',
      async (mode) => {
        rig = await Rig.start({ mode, fill: manyNames })
        // The catalog knows them all before the file is stored.
        await expectAllNames(rig, 'content')
        rig.dieAt('content.names.announced')
        void rig.migrate().catch(() => undefined)
        await rig.untilDead()
        await rig.restart(next)
        await rig.migrate()
        await rig.settle()
        const { rig: rebuilt } = await Rig.rebuilt(rig.world.memory)
        try {
          await expectAllNames(rebuilt, 'content')
          const ino = await new Client(rebuilt).node(nameOf(0))
          expect(rebuilt.catalog.get(ino)?.nlink).toBe(NAMES)
        } finally {
          await rebuilt.stop()
        }
      },
    )

    test('P3: at migration.reap.removed no name is lost, and the file goes in the end', async () => {
      rig = await Rig.start({ mode: 'drain', fill: manyNames })
      rig.dieAt('migration.reap.removed')
      void rig.migrate().catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      await rig.migrate()
      await rig.settle()
      await rig.reap()
      await expectAllNames(rig, 'content')
      expect(readdirSync(rig.source)).toEqual([])
    })

    test('P1: one that was changed past the overlay after migration.reap.removed is newer under all its names', async () => {
      rig = await Rig.start({ mode: 'drain', fill: manyNames })
      rig.dieAt('migration.reap.removed')
      void rig.migrate().catch(() => undefined)
      await rig.untilDead()
      const left = readdirSync(join(rig.source, 'd'))[0] ?? ''
      writeFileSync(join(rig.source, 'd', left), 'newer content')
      await rig.restart(next)
      await rig.migrate()
      await rig.settle()
      await rig.reap()
      await expectAllNames(rig, 'newer content')
    })
  },
)
