import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import { Catalog } from '../../../src/catalog/index.ts'
import { Client } from '../../support/rig/client.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LONG = 'l'.repeat(200)
const BOTH = ['worker', 'mount'] as const

let rig: Rig

afterEach(() => rig.stop())

async function start(mode: Mode): Promise<Client> {
  rig = await Rig.start({ mode, fill: plain })
  await rig.migrate()
  await rig.settle()
  return new Client(rig)
}

function plain(source: string): void {
  writeFileSync(join(source, 'a'), 'alpha', { mode: 0o644 })
  writeFileSync(join(source, 'b'), LONG, { mode: 0o644 })
}

const staged = (): string[] => readdirSync(join(rig.stateDir, 'staging'))

describe.each(['mirror', 'drain'] as const)('a crash of background work in %s', (mode) => {
  test.each([
    'content.upload.claimed',
    'content.upload.chunk-listed',
    'content.upload.chunks-stored',
    'content.upload.object-stored',
    'content.upload.recorded',
    'content.directory.shards-stored',
    'content.directory.header-stored',
    'content.garbage.deleted',
  ])('P4: at %s loses nothing and leaves nothing behind', async (point) => {
    const client = await start(mode)
    for (const next of ['worker', 'mount'] as const) {
      // The store comes back only when everything is acknowledged, so that the crash hits the work, not the request.
      rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
      await client.create(`${next}-new`, `${LONG}${next}`)
      await client.overwrite('b', 0, `changed by ${next}`)
      await client.mkdir(`${next}-directory`)
      rig.dieAt(point)
      rig.world.heal()
      await rig.untilDead()
      await rig.restart(next)
      expect(await client.readPath(`${next}-new`)).toBe(`${LONG}${next}`)
      expect(await client.readPath('b')).toMatch(new RegExp(`^changed by ${next}`))
    }
    await expectSettled(rig)
  })
})

describe('a crash where a staging file that was given up is removed', () => {
  test.each([
    ['content.staging.flushed', 1],
    ['content.staging.removed', 0],
  ] as const)('P2: at %s the store has what it had, and nothing is left behind', async (point, left) => {
    const client = await start('drain')
    for (const next of BOTH) {
      await client.create(`${next}-new`, `${LONG}${next}`)
      rig.dieAt(point)
      client.forgetAll()
      await rig.untilDead()
      expect(staged()).toHaveLength(left)
      await rig.restart(next)
      expect(await client.readPath(`${next}-new`)).toBe(`${LONG}${next}`)
      await expectSettled(rig)
      await rig.context.staging.givenBack()
      expect(staged()).toEqual([])
    }
  })
})

describe('a crash of the reaper', () => {
  test.each([
    ['migration.reap.verified', true],
    ['migration.reap.flushed', true],
    ['migration.reap.removed', false],
    ['migration.reap.synced', false],
  ] as const)('P3: at %s the content is somewhere at every moment', async (point, kept) => {
    for (const next of ['worker', 'mount'] as const) {
      rig = await Rig.start({
        mode: 'drain',
        fill: (source) => writeFileSync(join(source, 'only'), LONG),
      })
      const client = new Client(rig)
      const ino = (await client.lookup('only'))?.attributes.ino
      rig.dieAt(point)
      void rig.migrate().catch(() => undefined)
      await rig.untilDead()
      expect(readdirSync(rig.source)).toEqual(kept ? ['only'] : [])
      await rig.restart(next)
      expect(await client.readPath('only')).toBe(LONG)
      await rig.migrate()
      await rig.reap()
      expect(readdirSync(rig.source)).toEqual([])
      expect(await client.readPath('only')).toBe(LONG)
      expect((await client.lookup('only'))?.attributes.ino).toBe(ino)
      expect(rig.catalog.lists.totals().drained).toBe(1)
      await expectSettled(rig)
      if (next === 'worker') await rig.stop()
    }
  })
})

test.each(BOTH)(
  'P2: a staging file goes only once the catalog has let go of it for good; the next %s removes what a crash left',
  async (next) => {
    const client = await start('drain')
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.create('new', LONG)
    client.forgetAll()
    expect(staged()).toHaveLength(1)
    let committed: boolean | undefined
    atPoint('overlay.purge.committed', () => {
      const seen = Catalog.open(rig.catalogPath, { check: false })
      committed = seen.get(node) === undefined
      void seen.close()
    })
    const unique = await rig.cutShort('overlay.purge.committed', (overlay, request) =>
      overlay.unlink(request, 1n, Buffer.from('new')),
    )
    expect(committed).toBe(true)
    expect(staged()).toHaveLength(1)
    await rig.restart(next)
    expect(staged()).toEqual([])
    if (next === 'worker')
      await rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('new')), {}, unique)
    expect(await client.exists('new')).toBe(false)
    await expectSettled(rig)
  },
)

test('P2: an unlink that the catalog has no room for leaves every staged byte', async () => {
  const client = await start('drain')
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  await client.create('new', LONG)
  client.forgetAll()
  const unlink = (): Promise<void> =>
    rig.perform((overlay, request) => overlay.unlink(request, 1n, Buffer.from('new')))
  let failures = 0
  for (let writes = 0; ; writes += 1) {
    fillDisk(rig.catalogPath, writes)
    const done = await unlink().then(
      () => true,
      () => false,
    )
    freeDisk(rig.catalogPath)
    if (done) break
    failures += 1
    const node = await client.node('new')
    expect((await client.read(node)).toString()).toBe(LONG)
    client.forgetAll()
  }
  expect(failures).toBeGreaterThan(3)
  await rig.context.staging.givenBack()
  expect(staged()).toEqual([])
  await expectSettled(rig)
})

test('P2: what a truncation relies on is on the medium before its intent, staged before or not', async () => {
  const client = await start('drain')
  const node = await client.node('b')
  await client.write(node, 5, 'WRITTEN')
  const { staging } = rig.context
  const sync = staging.sync.bind(staging)
  let synced = 0
  Object.assign(staging, {
    sync: async (...args: Parameters<typeof sync>) => {
      await sync(...args)
      synced += 1
    },
  })
  const before: number[] = []
  atPoint('content.truncate.intended', () => before.push(synced))
  await client.truncate(node, 20)
  expect(before).toEqual([1])
})

describe.each(BOTH)('a crash while the only copy is put aside, then the next %s', (next) => {
  test.each(['content.preserve.written', 'content.preserve.committed'])(
    'P1: at %s every byte is there',
    async (point) => {
      const client = await start('drain')
      const node = await client.node('a')
      rig.dieAt(point)
      await client.truncate(node, 8).catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      expect(await client.readPath('a')).toBe('alpha\0\0\0')
      await rig.settle()
      expect(await client.readPath('a')).toBe('alpha\0\0\0')
      await expectSettled(rig)
    },
  )
})

test.each(BOTH)(
  'P7: a recovery that dies at overlay.recovery.concluded is finished by the next %s',
  async (next) => {
    const client = await start('mirror')
    const request = (overlay: Rig['overlay'], context: ReturnType<Rig['request']>) =>
      overlay.mkdir(context, 1n, Buffer.from('new'), 0o750)
    const unique = await rig.cutShort('overlay.create.effect', request)
    rig.dieAt('overlay.recovery.concluded')
    await expect(rig.restart('worker')).rejects.toThrow('the daemon is dead')
    await rig.restart(next)
    if (next === 'worker') await rig.perform(request, {}, unique)
    expect((await client.lookup('new'))?.attributes.mode).toBe(0o040750)
    await expectSettled(rig)
  },
)

test('P1: a mount that dies at migration.lease.claimed has written nothing; the next has an epoch of its own', async () => {
  const client = await start('drain')
  const before = rig.epoch
  rig.die()
  rig.dieAt('migration.lease.claimed')
  await expect(rig.restart('mount')).rejects.toThrow('the daemon is dead')
  await rig.restart('mount')
  expect(rig.epoch).toBeGreaterThan(before)
  await rig.lease.check(rig.catalog, rig.epoch)
  await client.overwrite('b', 0, 'changed')
  await expectSettled(rig)
})

test.each(BOTH)(
  'P4: shards of a split that dies at content.directory.shards-stored go, though no split follows under the next %s',
  async (next) => {
    const client = await start('drain')
    const directory = await client.mkdir('many')
    const make = (name: string) =>
      rig.perform((overlay, request) => overlay.mknod(request, directory, Buffer.from(name), 0o100644, 0))
    for (let n = 0; n < 1000; n += 1) await make(`file-${n}`)
    await rig.settle()
    await make('one too many')
    rig.dieAt('content.directory.shards-stored')
    await rig.untilDead()
    await rig.restart(next)
    await client.unlink('many/one too many')
    client.forgetAll()
    await expectSettled(rig)
  },
)

describe.each(BOTH)('a crash of the reaper, then the next %s', (next) => {
  const twoNames = (source: string): void => {
    writeFileSync(join(source, 'one'), LONG)
    linkSync(join(source, 'one'), join(source, 'two'))
  }

  test.each([
    ['nothing', async () => undefined, LONG],
    ['its content', (client: Client) => client.overwrite('one', 0, 'CHANGED'), `CHANGED${LONG.slice(7)}`],
  ] as const)(
    'P3: at migration.reap.removed between two names of one file, with %s changed, nothing comes back or goes',
    async (_what, change, content) => {
      rig = await Rig.start({ mode: 'drain', fill: twoNames })
      const client = new Client(rig)
      await client.node('two')
      const node = await client.node('one')
      await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
      await rig.settle()
      await change(client)
      await rig.settle()
      rig.dieAt('migration.reap.removed')
      void rig.reap().catch(() => undefined)
      await rig.untilDead()
      expect(readdirSync(rig.source)).toHaveLength(1)
      await rig.restart(next)
      const whole = async (): Promise<void> => {
        for (const name of ['one', 'two']) {
          expect(await client.readPath(name)).toBe(content)
          expect((await client.lookup(name))?.attributes).toMatchObject({ mode: 0o100600, nlink: 2 })
        }
      }
      await whole()
      await rig.reap()
      await whole()
      expect(readdirSync(rig.source)).toEqual([])
      await expectSettled(rig)
    },
  )

  test('P3: at migration.reap.whiteout-removed the other names are what they were', async () => {
    rig = await Rig.start({ mode: 'drain', fill: twoNames })
    const client = new Client(rig)
    const node = await client.node('one')
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    await rig.settle()
    // A name of the file that the overlay once gave up, as a whiteout without an owner.
    rig.catalog.transaction(() => rig.catalog.dirents.set(1n, Buffer.from('two'), undefined, 0n))
    rig.dieAt('migration.reap.whiteout-removed')
    void rig.reap().catch(() => undefined)
    await rig.untilDead()
    expect(readdirSync(rig.source)).toEqual(['one'])
    await rig.restart(next)
    await rig.reap()
    expect(readdirSync(rig.source)).toEqual([])
    expect(await client.readPath('one')).toBe(LONG)
    expect((await client.lookup('one'))?.attributes.mode).toBe(0o100600)
    expect(await client.exists('two')).toBe(false)
    await rig.settle()
  })

  // ENOENT from READDIR is what readdir(3) takes for the end: the directory would look empty.
  test('P1: at migration.reap.directory-removed the directory lists what was made in it', async () => {
    rig = await Rig.start({
      mode: 'drain',
      fill: (source) => {
        mkdirSync(join(source, 'd/e'), { recursive: true })
        writeFileSync(join(source, 'd/e/only'), LONG)
        symlinkSync('e/only', join(source, 'd/link'))
      },
    })
    const client = new Client(rig)
    rig.dieAt('migration.reap.directory-removed')
    void rig.migrate().catch(() => undefined)
    await rig.untilDead()
    await rig.restart(next)
    expect(readdirSync(join(rig.source, 'd'))).toEqual([])
    const names = async (path: string) => (await client.list(await client.node(path))).map(String).sort()
    expect(await names('d/e')).toEqual(['only'])
    expect(await names('d')).toEqual(['e', 'link'])
    await client.create('d/e/more', LONG)
    await client.unlink('d/e/more')
    await client.unlink('d/e/only')
    await rig.perform(async (overlay, request) =>
      overlay.rmdir(request, await client.node('d'), Buffer.from('e')),
    )
    expect(await names('d')).toEqual(['link'])
    client.forgetAll()
    await expectSettled(rig)
  })
})

describe('what was changed through the overlay in drain', () => {
  test('P1: is not read from the legacy copy, which is out of date, when the store fails', async () => {
    const client = await start('mirror')
    await rig.setMode('drain')
    await client.overwrite('b', 0, 'changed')
    await rig.settle()
    rig.world.inject({ fault: 'unavailable', on: ['get'] })
    await expect(client.readPath('b')).rejects.toMatchObject({ code: 'EIO' })
    rig.world.heal()
    expect(await client.readPath('b')).toBe(`changed${LONG.slice(7)}`)
  })

  test('P2: stays though the legacy copy is changed past the overlay afterwards', async () => {
    const client = await start('mirror')
    await rig.setMode('drain')
    await client.overwrite('b', 0, 'changed')
    await rig.settle()
    writeFileSync(join(rig.source, 'b'), 'past the overlay')
    await rig.reap()
    expect(await client.readPath('b')).toBe(`changed${LONG.slice(7)}`)
    expect(readFileSync(join(rig.source, 'b'), 'utf8')).toBe('past the overlay')
    rmSync(join(rig.source, 'b'))
    await rig.reap()
    expect(await client.readPath('b')).toBe(`changed${LONG.slice(7)}`)
    await expectSettled(rig)
  })
})

test('P1: an fsync does not vouch for what was staged while it ran', async () => {
  const client = await start('drain')
  const node = await client.node('b')
  const { staging } = rig.context
  const sync = staging.sync.bind(staging)
  await client.write(node, 0, 'first')
  Object.assign(staging, {
    sync: async (...args: Parameters<typeof sync>) => {
      const isThere = await sync(...args)
      await client.write(node, 3 << 20, 'staged after the medium had everything')
      return isThere
    },
  })
  await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
  expect([...rig.catalog.staged.rows(node)].map(({ index }) => index)).toEqual([0, 3])
  expect([...rig.catalog.staged.rows(node)].filter(({ synced }) => synced === 0)).toMatchObject([
    { index: 3 },
  ])
})
