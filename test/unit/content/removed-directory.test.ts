import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Rig } from '../../support/rig/rig.ts'

// A row for each, about the parts of its record to write, stayed in the catalog: seen in the one that a chaos run had left.
test.each(['mirror', 'drain'] as const)(
  'P4: in %s nothing is left in the catalog of directories that come and go',
  async (mode) => {
    const rig = await Rig.start({ mode, fill: (source) => mkdirSync(join(source, 'd')) })
    const gone: bigint[] = []
    try {
      await rig.migrate()
      for (const recorded of [false, true]) {
        const name = Buffer.from(`recorded-${recorded}`)
        const { nodeId } = await rig.perform(async (overlay, request) =>
          overlay.mkdir(request, 1n, name, 0o755),
        )
        await rig.perform(async (overlay, request) =>
          overlay.mkdir(request, nodeId, Buffer.from('below'), 0o755),
        )
        if (recorded) await rig.settle()
        await rig.perform(async (overlay, request) => overlay.rmdir(request, nodeId, Buffer.from('below')))
        await rig.perform(async (overlay, request) => overlay.rmdir(request, 1n, name))
        rig.overlay.forget(nodeId, 1n)
        gone.push(nodeId)
      }
      await rig.settle()
      for (const ino of gone) {
        expect(rig.catalog.get(ino)).toBeUndefined()
        expect(rig.catalog.outbox.dirtyShards(ino)).toEqual([])
      }
    } finally {
      await rig.stop()
    }
  },
)
