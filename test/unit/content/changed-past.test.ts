import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
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
