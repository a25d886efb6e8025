import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

test.each(['mirror', 'prefer-store'] as const)(
  'P4: a file that is gone past the overlay, and that the kernel still knows, is no failure, %s',
  async (mode) => {
    rig = await Rig.start({
      mode,
      fill: (source) => {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/keep'), 'keep')
      },
    })
    const client = new Client(rig)
    for (const name of ['one', 'two', 'three']) {
      const path = join(rig.source, 'd', name)
      writeFileSync(path, name)
      const node = await client.node(`d/${name}`)
      const handle = await client.open(node, 0)
      await client.read(node)
      rmSync(path)
      await client.close(node, handle)
      await rig.migrate()
    }
    await client.list(await client.node('d'))
    await rig.migrate()
    expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
  },
)
