import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import { leaveStrays } from '../../support/rig/strays.ts'

let rig: Rig

afterEach(() => rig.stop())

describe.each(['worker', 'mount'] as const)('a sweep, cut short, then the next %s', (next) => {
  test.each(['migration.sweep.listed', 'migration.sweep.deleted'] as const)(
    'P2 P4: at %s: what was listed goes, the rest at the next sweep',
    async (point) => {
      rig = await Rig.start({
        mode: 'drain',
        fill: (source) => writeFileSync(join(source, 'a'), 'a'.repeat(500)),
      })
      await rig.migrate()
      await rig.settle()
      const left = await leaveStrays(rig.world.memory, rig.epoch)
      const shown = await new Client(rig).tree()
      rig.dieAt(point)
      void rig.beginSweep().catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      expect(await new Client(rig).tree()).toEqual(shown)
      await rig.settle()
      // The first kind of objects was listed.
      const { unowned } = await accountFor(rig.catalog, rig.world.memory)
      expect(unowned.sort()).toEqual(left.filter((name) => !name.startsWith('files ')))
      expect(await rig.sweep()).toMatchObject({ found: 3, swept: 3 })
      await expectSettled(rig)
    },
  )
})
