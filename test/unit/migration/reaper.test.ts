import { existsSync, linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LONG = 'l'.repeat(500)
let rig: Rig
let client: Client
let node: bigint
const onDisk = (name: string): string => join(rig.source, name)

/** A file in the store and in the catalog's hands, its legacy copy not removed yet: everything is ready for it. */
beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), LONG)
    },
  })
  client = new Client(rig)
  node = await client.node('d/f')
  await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
  await rig.settle()
})

afterEach(() => rig.stop())

const chunkKey = (): RegExp => new RegExp(`^${node.toString(16)}-`)

interface Obstacle {
  readonly what: string
  /** Takes one precondition away; what it returns gives it back. */
  readonly raise: () => Promise<() => Promise<void> | void>
}

const OBSTACLES: readonly Obstacle[] = [
  {
    what: 'the object is damaged',
    raise: async () => {
      rig.world.inject({ fault: 'corrupt', on: ['get'], space: 'files' })
      return () => rig.world.heal()
    },
  },
  {
    what: 'a chunk is damaged',
    raise: async () => {
      rig.world.inject({ fault: 'corrupt', on: ['get'], space: 'chunks' })
      return () => rig.world.heal()
    },
  },
  {
    what: 'a chunk is not found',
    raise: async () => {
      rig.world.inject({ fault: 'not-found', on: ['get'], space: 'chunks', key: chunkKey() })
      return () => rig.world.heal()
    },
  },
  {
    what: 'the store has an older version',
    raise: async () => {
      rig.world.inject({ fault: 'stale', on: ['get'], space: 'files' })
      return () => rig.world.heal()
    },
  },
  {
    what: 'the store does not answer',
    raise: async () => {
      rig.world.inject({ fault: 'timeout', on: ['get'] })
      return () => rig.world.heal()
    },
  },
  {
    what: "its directory's record is not written",
    raise: async () => {
      rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs' })
      await client.create('d/other')
      return () => rig.world.heal()
    },
  },
  {
    what: 'the record of a directory above is not written',
    raise: async () => {
      rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs' })
      await client.rename('d', 'e')
      return async () => {
        rig.world.heal()
        await client.rename('e', 'd')
      }
    },
  },
  {
    what: 'the catalog cannot be flushed',
    raise: async () => {
      const flush = rig.catalog.flush.bind(rig.catalog)
      const { FsError } = await import('../../../src/base/errors.ts')
      Object.assign(rig.catalog, { flush: () => Promise.reject(new FsError('EIO', 'no flush')) })
      return () => {
        Object.assign(rig.catalog, { flush })
      }
    },
  },
  {
    what: 'a change is not in the store',
    raise: async () => {
      rig.world.inject({ fault: 'rejected', on: ['put'], space: 'files' })
      await client.overwrite('d/f', 0, LONG)
      return () => rig.world.heal()
    },
  },
]

// Its row hid what the volume had in it; when that was gone the row stayed, and the directory on the volume, until a new mount.
test.each(['removed', 'replaced'])(
  'a directory that was %s goes from the volume after what was in it',
  async (how) => {
    await client.mkdir('e')
    await client.unlink('d/f')
    if (how === 'replaced') await client.rename('e', 'd')
    else {
      const { parent, name } = await client.place('d')
      await rig.perform((overlay, request) => overlay.rmdir(request, parent, name))
    }
    client.forgetAll()
    await rig.settle()
    await rig.reap()
    expect(existsSync(onDisk('d'))).toBe(false)
    expect([...rig.catalog.lists.orphans()]).toEqual([])
    await expectSettled(rig)
  },
)

describe('P3: the legacy copy stays while', () => {
  test.each(OBSTACLES)('$what', async ({ raise }) => {
    const lower = await raise()
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(true)
    await lower()
    await rig.settle()
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(false)
    expect(await client.readPath('d/f')).toBe(LONG)
    expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
    await expectSettled(rig)
  })

  test('the daemon ends: that is no failure of the file', async () => {
    rig.world.inject({ fault: 'timeout', on: ['get'] })
    await rig.reap()
    const reaping = rig.reap()
    await rig.context.carrier.stop()
    await reaping
    expect(existsSync(onDisk('d/f'))).toBe(true)
    expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
  })

  test('it was changed past the overlay, before or while it is verified: it is newer and wins', async () => {
    writeFileSync(onDisk('d/f'), 'newer')
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(true)
    expect(await client.readPath('d/f')).toBe('newer')
    await rig.migrate()
    await rig.settle()
    atPoint('migration.reap.flushed', () => writeFileSync(onDisk('d/f'), 'newest'))
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    await rig.settle()
    await rig.reap()
    atPoint('migration.reap.flushed', undefined)
    if (existsSync(onDisk('d/f'))) expect(await client.readPath('d/f')).toBe('newest')
    await rig.migrate()
    await expectSettled(rig)
  })

  test('it is written through the overlay while it is verified', async () => {
    let change: Promise<unknown> | undefined
    atPoint('migration.reap.verified', () => {
      change ??= client.write(node, 0, 'changed')
    })
    await rig.reap()
    await change
    expect(await client.readPath('d/f')).toBe(`changed${LONG.slice(7)}`)
    await rig.settle()
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(false)
    expect(await client.readPath('d/f')).toBe(`changed${LONG.slice(7)}`)
    await expectSettled(rig)
  })

  test('it has a name that the catalog has not met', async () => {
    linkSync(onDisk('d/f'), onDisk('hidden'))
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(true)
    expect(await client.readPath('hidden')).toBe(LONG)
    expect(await client.readPath('d/f')).toBe(LONG)
  })

  test('another file has taken its name past the overlay: that one is not touched', async () => {
    writeFileSync(onDisk('other'), 'other')
    renameSync(onDisk('other'), onDisk('d/f'))
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(true)
  })

  test('the mode no longer removes', async () => {
    atPoint('migration.reap.verified', () => undefined)
    const sweep = rig.setMode('store-only')
    await sweep
    await rig.reap()
    expect(existsSync(onDisk('d/f'))).toBe(true)
  })
})

test('P3: where there is nothing on the volume any more nothing is removed, and the file is there', async () => {
  rmSync(onDisk('d/f'))
  await rig.reap()
  expect(await client.readPath('d/f')).toBe(LONG)
  await expectSettled(rig)
})

test('P1 P2: a directory whose removal the catalog had no room to note lists what was made in it', async () => {
  const listed = async (): Promise<string[]> => (await client.list(await client.node('d'))).map(String).sort()
  await client.create('d/other', 'other')
  await rig.settle()
  const path = rig.catalogPath
  atPoint('migration.reap.directory-removed', () => fillDisk(path))
  await expect(rig.reap()).rejects.toMatchObject({ code: 'ENOSPC' })
  atPoint('migration.reap.directory-removed', undefined)
  freeDisk(path)
  expect(existsSync(onDisk('d'))).toBe(false)
  expect(await listed()).toEqual(['f', 'other'])
  await client.create('d/late', 'late')
  await rig.settle()
  await rig.reap()
  for (const name of ['f', 'late', 'other']) await client.unlink(`d/${name}`)
  await rig.perform((overlay, request) => overlay.rmdir(request, 1n, Buffer.from('d')))
  client.forgetAll()
  await expectSettled(rig)
})

test('P7: a directory keeps its times while legacy copies are removed from it', async () => {
  mkdirSync(onDisk('e'))
  writeFileSync(onDisk('e/g'), LONG)
  const times = async () => {
    const { mtimeNs, ctimeNs } = (await client.lookup('e'))?.attributes ?? {}
    return { mtimeNs, ctimeNs }
  }
  const before = await times()
  const file = await client.node('e/g')
  await rig.perform((overlay, request) => overlay.setattr(request, file, { mode: 0o600 }))
  await rig.settle()
  await rig.reap()
  expect(existsSync(onDisk('e/g'))).toBe(false)
  expect(await times()).toEqual(before)
})

test('P3: an empty staging file that a full catalog could not take away does not keep the legacy copy for ever', async () => {
  // A write whose transaction finds no room, and none is there to take its staging file back either.
  for (let writes = 0; ; writes += 1) {
    fillDisk(rig.catalogPath, writes)
    const failed = await client.write(node, 0, 'other').then(
      () => false,
      () => true,
    )
    freeDisk(rig.catalogPath)
    if (!failed) break
    if (rig.catalog.get(node)?.staged) {
      await rig.reap()
      expect(existsSync(onDisk('d/f'))).toBe(false)
      await expectSettled(rig)
      return
    }
  }
  throw new Error('no write left an empty staging file')
})
