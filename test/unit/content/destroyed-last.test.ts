import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, describe, expect, test } from 'vitest'
import { inoOfFileId } from '../../../src/catalog/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import type { Unsynced } from '../../support/rig/power.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'

// The power goes right behind each step that destroys something; the catalog is then what was flushed last, everything else is
// as it was. What was synced before is there, old or new where it was being changed, and never anything else.

const OLD = 'old '.repeat(50)
const NEW = 'the new content '.repeat(20)
const CUTS: Unsynced[] = ['kept', 'lost']

let rig: Rig

afterEach(() => rig.stop())

async function start(options: RigOptions = {}): Promise<Client> {
  rig = await Rig.start({ mode: 'drain', powerCuts: true, ...options })
  return new Client(rig)
}

/** A file that is in the store and on the medium. */
async function stored(client: Client, name: string): Promise<bigint> {
  const node = await client.create(name, OLD)
  await rig.settle()
  await synced()
  return node
}

const synced = (): Promise<void> => rig.perform((overlay) => overlay.syncfs())

/** Lets time pass until the store has got such a request, and cuts the power in that turn. */
async function cutAfter(request: RegExp, unsynced: Unsynced): Promise<Client> {
  const from = rig.world.requests.length
  const isThere = (): boolean => rig.world.requests.slice(from).some((sent) => request.test(sent))
  await clock.untilTrue(isThere)
  await turns(3)
  await rig.powerCut(unsynced)
  return new Client(rig)
}

async function cutAt(point: string, unsynced: Unsynced, work: () => Promise<unknown>): Promise<Client> {
  rig.dieAt(point)
  void work().catch(() => undefined)
  await rig.untilDead()
  await rig.powerCut(unsynced)
  return new Client(rig)
}

const content = async (client: Client, name: string): Promise<string | undefined> =>
  (await client.exists(name)) ? client.readPath(name) : undefined

/** Numbers of files whose staging file the catalog on the disk refers to, and the staging directory does not have. */
function stagingLackedBy(stateDir: string): unknown[] {
  const there = readdirSync(join(stateDir, 'staging')).map(inoOfFileId)
  const catalog = new DatabaseSync(join(stateDir, 'catalog.db'), { readOnly: true })
  try {
    const owners = catalog.prepare('SELECT ino FROM inodes WHERE staged > 0').all()
    return owners.map(({ ino }) => BigInt(Number(ino))).filter((ino) => !there.includes(ino))
  } finally {
    catalog.close()
  }
}

describe.each(CUTS)('P2: with unsynced bytes %s', (unsynced) => {
  test.each([64, 1024 * 1024])('an object that is replaced (inline up to %i)', async (inlineLimit) => {
    const client = await start({ inlineLimit })
    const node = await stored(client, 'f')
    await client.truncate(node, 0)
    await client.write(node, 0, NEW)
    client.forgetAll()
    const after = await cutAfter(/^put files f$/, unsynced)
    expect([OLD, NEW]).toContain(await content(after, 'f'))
  })

  test.each([64, 1024 * 1024])('an object under a key used again (inline up to %i)', async (inlineLimit) => {
    const client = await start({ inlineLimit })
    await stored(client, 'f')
    await rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('f')))
    client.forgetAll()
    await client.create('f', NEW)
    client.forgetAll()
    const after = await cutAfter(/^put files f/, unsynced)
    // What nobody had synced may be lost: an error is no wrong byte.
    const seen = await content(after, 'f').catch(() => 'EIO')
    expect([OLD, NEW, 'EIO']).toContain(seen)
  })

  test('a chunk that nothing refers to any more', async () => {
    const client = await start()
    const node = await stored(client, 'f')
    await client.truncate(node, 0)
    await client.write(node, 0, NEW)
    client.forgetAll()
    const after = await cutAfter(/^delete chunks /, unsynced)
    expect([OLD, NEW]).toContain(await content(after, 'f'))
  })

  test('the objects of a file that was removed', async () => {
    const client = await start()
    await stored(client, 'f')
    await rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('f')))
    client.forgetAll()
    const after = await cutAfter(/^delete (chunks|files) /, unsynced)
    expect([OLD, undefined]).toContain(await content(after, 'f'))
  })

  test('a staging file that recovery gives up, and the power goes again right behind that', async () => {
    const client = await start()
    const node = await stored(client, 'f')
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    await client.write(node, 0, NEW)
    await cutAt('content.truncate.cut', unsynced, () => client.truncate(node, 4))
    await rig.powerCut(unsynced)
    expect([OLD.slice(0, 4), NEW.slice(0, 4)]).toContain(await content(new Client(rig), 'f'))
  })

  test.each(['content.write.begun', 'content.write.filled'])(
    'a staging file that recovery gives up after a kill at %s stays until no flushed row refers to it',
    async (point) => {
      const client = await start()
      const node = await stored(client, 'f')
      rig.dieAt(point)
      void client.write(node, 4, 'new').catch(() => undefined)
      await rig.untilDead()
      await rig.restart('mount')
      const lacking: unknown[] = []
      await rig.powerCut(unsynced, (stateDir) => lacking.push(...stagingLackedBy(stateDir)))
      expect(lacking).toEqual([])
      expect(await content(new Client(rig), 'f')).toBe(OLD)
    },
  )

  test('a file that was being cut, and whose staging file is missing, is no reason not to start', async () => {
    const client = await start()
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.create('f', NEW)
    await synced()
    rig.dieAt('content.truncate.cut')
    void client.truncate(node, 4).catch(() => undefined)
    await rig.untilDead()
    await rig.mountDamaged((stateDir) => rmSync(join(stateDir, 'staging'), { recursive: true }))
    await expect(content(new Client(rig), 'f')).rejects.toMatchObject({ code: 'EIO' })
  })

  test.each(['content.staging.flushed', 'content.staging.removed', 'content.upload.recorded'])(
    'a staging file, at %s',
    async (point) => {
      const client = await start()
      rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
      await client.create('f', NEW)
      await synced()
      client.forgetAll()
      const after = await cutAt(point, unsynced, async () => {
        rig.world.heal()
        await rig.settle()
      })
      expect(await content(after, 'f')).toBe(NEW)
    },
  )

  test('the end of a staging file', async () => {
    const client = await start()
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.create('f', NEW)
    await synced()
    const after = await cutAt('content.truncate.cut', unsynced, () => client.truncate(node, 100))
    rig.world.heal()
    expect([NEW, NEW.slice(0, 100)]).toContain(await content(after, 'f'))
  })

  test('a staging file whose file was removed', async () => {
    const client = await start()
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    await client.create('f', NEW)
    await synced()
    client.forgetAll()
    const after = await cutAt('overlay.purge.committed', unsynced, () =>
      rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('f'))),
    )
    expect([NEW, undefined]).toContain(await content(after, 'f'))
  })

  test.each(['migration.reap.removed', 'migration.reap.synced'])(
    'P3: a legacy file, at %s',
    async (point) => {
      await start({ fill: (source) => writeFileSync(join(source, 'f'), OLD) })
      const after = await cutAt(point, unsynced, () => rig.migrate())
      expect(existsSync(join(rig.source, 'f'))).toBe(false)
      expect(await content(after, 'f')).toBe(OLD)
    },
  )

  test('P3: a legacy file that was deleted through the overlay', async () => {
    const client = await start({ fill: (source) => writeFileSync(join(source, 'f'), OLD) })
    await client.node('f')
    await rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('f')))
    client.forgetAll()
    const after = await cutAt('migration.reap.whiteout-removed', unsynced, () => rig.reap())
    expect(await content(after, 'f')).toBeUndefined()
  })

  test('P1: a deleted legacy file whose removal the volume’s disk lost stays deleted', async () => {
    const client = await start({ fill: (source) => writeFileSync(join(source, 'f'), OLD) })
    await client.node('f')
    await rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('f')))
    await synced()
    client.forgetAll()
    const after = await cutAt('migration.reap.whiteout-removed', unsynced, () => rig.reap())
    writeFileSync(join(rig.source, 'f'), OLD)
    expect(await content(after, 'f')).toBeUndefined()
  })

  test('P3: a legacy directory with nothing left in it', async () => {
    await start({
      fill: (source) => {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/f'), OLD)
      },
    })
    const after = await cutAt('migration.reap.directory-removed', unsynced, async () => {
      await rig.migrate()
      await rig.reap()
    })
    expect(existsSync(join(rig.source, 'd'))).toBe(false)
    expect(await content(after, 'd/f')).toBe(OLD)
  })
})
