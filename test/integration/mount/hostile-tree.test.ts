import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { growHostileTree } from '../../support/hostile-tree.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// More than any loop that is meant for a handful survives; the fixture fails a test in which the event loop was kept.
const SCALE = { links: 400, wide: 500, deep: 60, pieces: 10, xattrs: 3000 }

let ferry: Ferry

beforeEach(() => {
  ferry = new Ferry()
  growHostileTree(ferry.source, SCALE)
  mkdirSync(join(ferry.source, 'quiet'))
})

afterEach(async () => {
  await ferry.clear()
})

const { links, wide } = SCALE

describe.skipIf(whyNoMount() !== undefined).each(['mirror', 'drain'] as const)(
  'a hostile tree in %s',
  (mode) => {
    test('P6: keeps nobody from the event loop, is stored, and is what it was', async () => {
      await ferry.mount('--mode', mode)
      const { call } = ferry
      expect(await call.names(ferry.at('wide'))).toHaveLength(wide)
      expect((await ferry.migrate()).remaining).toBe(0)
      expect((await ferry.ask({ command: 'verify' })).differences).toEqual([])
      const below = (await call.names(ferry.at('links/other'))).length
      expect((await call.names(ferry.at('links'))).length + below).toBe(links + 1)
      expect((await call.stat(ferry.at('links/first'))).nlink).toBe(links)
      const giant = ferry.at('sparse/pieces')
      await ferry.run('fallocate', '-p', '-o', '4096', '-l', String(2 ** 43 - 4096), giant)
      await ferry.run('sync', giant)
      await ferry.run('truncate', '-s', '1', ferry.at('sparse/hole'))
      await ferry.settled()
      await ferry.run('rm', '-r', ferry.at('links'), ferry.at('wide'))
      expect((await call.names(ferry.target)).map(String).sort()).toEqual(['deep', 'odd', 'quiet', 'sparse'])
      await ferry.settled()
    }, 180_000)
  },
)
