import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { MODES } from '../../../src/base/modes.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { O_CREAT, O_WRONLY } from '../../support/posix/constants.ts'
import { type DiskLayout, describePower, PowerFerry } from '../../support/power/power-ferry.ts'

const layouts: readonly DiskLayout[] = ['one disk', 'two disks']
const contents = new Map(Array.from({ length: 5 }, (_, n) => [`file-${n}`, pattern(17_000 + n, n + 1)]))

describePower.each(layouts)('power goes after files were synced and stored, on %s', (layout) => {
  let power: PowerFerry

  beforeEach(async () => {
    power = await PowerFerry.make({ layout })
  })

  afterEach(async () => {
    await power.ferry.clear()
  })

  // A name that is removed is so on the disk within seconds, with the journal; pages of the catalog only half a minute later.
  test.each(gateShare(MODES, 2, layouts.indexOf(layout)))(
    'P2: in %s what fsync acknowledged is there',
    async (mode) => {
      const { ferry, disks } = power
      await ferry.mount('--mode', mode === 'store-only' ? 'drain' : mode)
      if (mode === 'store-only') await ferry.mode(mode)
      await disks.sync()
      for (const [name, body] of contents) {
        const file = await ferry.call.open(ferry.at(name), O_WRONLY | O_CREAT)
        await ferry.call.write(file, body)
        await ferry.call.fsync(file)
        await ferry.call.close(file)
      }
      if (mode !== 'observe') await ferry.settled()
      await ferry.eventually('no staging file left', async () => {
        return readdirSync(join(ferry.stateDir, 'staging')).length === 0
      })
      disks.commitJournals()
      await power.cut()
      await ferry.mount()
      for (const [name, body] of contents) expect((await ferry.readAnew(name)).equals(body), name).toBe(true)
      if (mode === 'observe') return
      await ferry.settled()
      const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
      expect(status, stdout).toBe(0)
    },
  )
})
