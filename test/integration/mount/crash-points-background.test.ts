import { mkdirSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { kernelIsAtLeast, whyNoMount } from '../../support/fuse/mounted.ts'
import { operationOf } from '../../support/mount/crash-operations.ts'
import { CrashRun } from '../../support/mount/crash-run.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const MiB = 1 << 20
const survives = kernelIsAtLeast(6, 9)

const UPLOADS = [
  'content.upload.claimed',
  'content.upload.chunk-listed',
  'content.upload.chunks-stored',
  'content.upload.object-stored',
  'content.upload.recorded',
  'content.directory.shards-stored',
  'content.directory.header-stored',
]

describe.skipIf(!survives || whyNoMount() !== undefined).each(['mirror', 'drain'])(
  'background work in %s',
  (mode) => {
    let ferry: Ferry
    let run: CrashRun

    beforeAll(async () => {
      ferry = new Ferry({ faults: true })
      run = await CrashRun.start(ferry, mode)
    })

    afterAll(async () => {
      await ferry.clear()
    })

    test.each(gateShare(UPLOADS, 2, mode === 'mirror' ? 0 : 1))(
      'P4: a worker that dies at %s costs nothing',
      async (point) => {
        const directory = await run.directory()
        const body = pattern(2 * MiB + 5, 3)
        await run.dies(point, async () => {
          await ferry.call.writeFile(`${directory}/large`, body)
          await ferry.call.mkdir(`${directory}/below`)
        })
        await ferry.settled()
        expect((await ferry.call.readFile(`${directory}/large`)).equals(body)).toBe(true)
      },
    )

    test('P4: what was unlinked leaves the store though the worker dies on the way', async () => {
      for (const point of ['content.garbage.deleted', 'overlay.purge.committed', 'fuse.forget.received']) {
        const path = `${await run.directory()}/stored`
        await ferry.call.writeFile(path, point)
        await ferry.settled()
        await run.dies(point, () => ferry.call.unlink(path))
        await expect(ferry.call.stat(path)).rejects.toThrow('ENOENT')
        await ferry.settled()
      }
    })

    if (mode === 'drain')
      test.each(['content.preserve.written', 'content.preserve.committed'])(
        'P1: at %s the only copy of a file is put aside, and is there',
        async (point) => {
          const path = `${await run.directory()}/small`
          await ferry.call.writeFile(path, 'alpha')
          await ferry.settled()
          await run.dies(point, () => ferry.call.truncate(path, 8))
          await ferry.settled()
          expect((await ferry.readAnew(path.slice(ferry.target.length + 1))).toString()).toBe('alpha\0\0\0')
        },
      )

    test
      .runIf(mode === 'drain')
      .each([
        'migration.reap.verified',
        'migration.reap.flushed',
        'migration.reap.removed',
        'migration.reap.directory-removed',
        'migration.reap.whiteout-removed',
      ])('P3: at %s the legacy copy goes last, and nothing with it', async (point) => {
      const name = `legacy ${point}`
      mkdirSync(ferry.under(name))
      writeFileSync(ferry.under(`${name}/kept`), 'kept')
      writeFileSync(ferry.under(`${name}/deleted`), 'deleted')
      await run.dies(point, async () => {
        expect((await ferry.call.readFile(ferry.at(`${name}/kept`))).toString()).toBe('kept')
        await ferry.call.unlink(ferry.at(`${name}/deleted`))
      })
      await ferry.settled()
      expect(await ferry.call.names(ferry.at(name))).toEqual(['kept'])
      expect((await ferry.readAnew(`${name}/kept`)).toString()).toBe('kept')
    })

    test('P7: a successor that dies at its start, too, and an old worker that dies at its end', async () => {
      const begun = await run.begin(operationOf('mkdir'))
      const recovery = mode === 'mirror' ? ['overlay.recovery.concluded'] : []
      const first = mode === 'mirror' ? 'overlay.create.effect' : 'overlay.create.committed'
      await run.dies([first, ...recovery, 'daemon.start.recovered'], begun.act)
      await begun.done()
      const { supervisorPid } = await ferry.status()
      await run.dies('daemon.stop.drained', async () => {
        process.kill(supervisorPid, 'SIGHUP')
        await ferry.call.writeFile(`${await run.directory()}/meanwhile`, 'meanwhile')
      })
    })

    // There is no way back to a mirror.
    const points =
      mode === 'drain' ? ['migration.mode.set', 'migration.mode.leaving'] : ['migration.mode.leaving']
    test.each(points)('P5: at %s the way to store-only is decided, and goes on to its end', async (point) => {
      await run.settle()
      await run.dies(point, () => ferry.mode('store-only'))
      await ferry.mode('store-only')
      expect((await ferry.status()).mode).toBe('store-only')
      await ferry.call.writeFile(ferry.at('late'), point)
      expect((await ferry.call.readFile(ferry.at('late'))).toString()).toBe(point)
      if (mode === 'drain') await ferry.mode('drain')
    })
  },
)
