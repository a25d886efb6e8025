import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import type { Answer, RequestContext } from '../../../src/fuse/operations.ts'
import type { Overlay } from '../../../src/overlay/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

type Operation = (overlay: Overlay, request: RequestContext) => Answer<unknown>

interface Scenario {
  readonly point: string
  readonly mode: Mode
  /** The request under way at the crash. */
  readonly operation: (client: Client) => Promise<Operation>
  /** Whether it has taken place for somebody who never got the answer (a new mount). */
  readonly lasts: boolean
  /** What the tree shows once it has taken place. */
  readonly done: (client: Client) => Promise<void>
  readonly undone: (client: Client) => Promise<void>
}

const B = (text: string): Buffer => Buffer.from(text)
const LONG = 'l'.repeat(200)
const WRITE = { killSuidGid: false, flags: 0 }

function fill(source: string): void {
  writeFileSync(join(source, 'a'), 'alpha', { mode: 0o644 })
  writeFileSync(join(source, 'b'), LONG, { mode: 0o644 })
  mkdirSync(join(source, 'dir'))
  writeFileSync(join(source, 'dir/c'), 'gamma', { mode: 0o644 })
  mkdirSync(join(source, 'empty'))
}

const there = (path: string, content: string) => async (client: Client) =>
  expect(await client.readPath(path)).toBe(content)
const gone = (path: string) => async (client: Client) => expect(await client.exists(path)).toBe(false)

const both =
  (...checks: Array<(client: Client) => Promise<void>>) =>
  async (client: Client) => {
    for (const check of checks) await check(client)
  }

type Case = Pick<Scenario, 'operation' | 'done' | 'undone'>

const create: Case = {
  operation: async () => (overlay, request) => overlay.create(request, 1n, B('new'), 0o640, 2),
  done: there('new', ''),
  undone: gone('new'),
}
const unlink: Case = {
  operation: async () => (overlay, request) => overlay.unlink(request, 1n, B('a')),
  done: gone('a'),
  undone: there('a', 'alpha'),
}
const rmdir: Case = {
  operation: async () => (overlay, request) => overlay.rmdir(request, 1n, B('empty')),
  done: gone('empty'),
  undone: async (client) => expect(await client.exists('empty')).toBe(true),
}
const rename: Case = {
  operation: async (client) => {
    const dir = await client.node('dir')
    return (overlay, request) => overlay.rename(request, 1n, B('a'), dir, B('c'), 0)
  },
  done: both(gone('a'), there('dir/c', 'alpha')),
  undone: both(there('a', 'alpha'), there('dir/c', 'gamma')),
}
const link: Case = {
  operation: async (client) => {
    const node = await client.node('a')
    return (overlay, request) => overlay.link(request, node, 1n, B('a2'))
  },
  done: async (client) => {
    expect(await client.readPath('a2')).toBe('alpha')
    expect((await client.lookup('a2'))?.attributes.nlink).toBe(2)
  },
  undone: gone('a2'),
}
const truncate: Case = {
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { size: 10 })
  },
  done: there('b', LONG.slice(0, 10)),
  undone: there('b', LONG),
}
const chmod: Case = {
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { mode: 0o600 })
  },
  done: async (client) => expect((await client.lookup('b'))?.attributes.mode).toBe(0o100600),
  undone: async (client) => expect((await client.lookup('b'))?.attributes.mode).toBe(0o100644),
}
const write: Case = {
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.write(request, node, 0n, 5, B('WRITTEN'), WRITE)
  },
  done: there('b', `lllllWRITTEN${LONG.slice(12)}`),
  undone: there('b', LONG),
}

const onVolume = (point: string, lasts: boolean, given: Case): Scenario => ({
  point,
  mode: 'mirror',
  lasts,
  ...given,
})
const inCatalog = (point: string, lasts: boolean, given: Case): Scenario => ({
  point,
  mode: 'drain',
  lasts,
  ...given,
})

const SCENARIOS: readonly Scenario[] = [
  onVolume('overlay.create.intended', false, create),
  onVolume('overlay.create.effect', true, create),
  onVolume('overlay.unlink.intended', false, unlink),
  onVolume('overlay.unlink.effect', true, unlink),
  onVolume('overlay.unlink.intended', false, rmdir),
  onVolume('overlay.rmdir.effect', true, rmdir),
  onVolume('overlay.rename.intended', false, rename),
  onVolume('overlay.rename.effect', true, rename),
  onVolume('overlay.link.intended', false, link),
  onVolume('overlay.link.effect', true, link),
  onVolume('overlay.truncate.dirty', false, truncate),
  onVolume('overlay.setattr.done', true, truncate),
  onVolume('overlay.attributes.dirty', false, chmod),
  onVolume('overlay.setattr.done', true, chmod),
  inCatalog('overlay.create.committed', true, create),
  inCatalog('overlay.unlink.committed', true, unlink),
  inCatalog('overlay.rmdir.committed', true, rmdir),
  inCatalog('overlay.rename.committed', true, rename),
  inCatalog('overlay.link.committed', true, link),
  inCatalog('content.write.staged', false, write),
  // Once it is intended a truncation is carried out, by whoever comes next.
  inCatalog('content.truncate.intended', true, truncate),
  inCatalog('content.truncate.cut', true, truncate),
  inCatalog('overlay.setattr.done', true, chmod),
]

let rig: Rig

afterEach(() => rig.stop())

async function start(mode: Mode): Promise<Client> {
  rig = await Rig.start({ mode, fill })
  await rig.migrate()
  await rig.settle()
  return new Client(rig)
}

describe.each(SCENARIOS)('a crash at $point in $mode', ({ point, mode, operation, lasts, done, undone }) => {
  test('P7: the next worker answers the repeated request, in effect once', async () => {
    const client = await start(mode)
    const request = await operation(client)
    const unique = await rig.cutShort(point, request)
    await rig.restart('worker')
    const answer = await rig.perform(request, {}, unique)
    await done(client)
    // The kernel may repeat it once more if that worker dies too before the answer is out.
    await rig.restart('worker')
    expect(await rig.perform(request, {}, unique)).toEqual(stableAnswer(answer))
    await done(client)
    client.forgetAll()
    await expectSettled(rig)
  })

  test(`P2: a new mount finds it ${lasts ? 'done' : 'not begun'}`, async () => {
    const client = await start(mode)
    await rig.cutShort(point, await operation(client))
    await rig.restart('mount')
    await (lasts ? done : undone)(client)
    await expectSettled(rig)
  })
})

/** Handles are a worker's own; times move when an idempotent change is made again. */
function stableAnswer(answer: unknown): unknown {
  if (typeof answer !== 'object' || answer === null) return answer
  if ('open' in answer && 'entry' in answer) {
    return expect.objectContaining({ entry: stableAnswer(answer.entry) })
  }
  if (!('attributes' in answer) || typeof answer.attributes !== 'object') return answer
  const {
    ctimeNs: _,
    atimeNs: __,
    mtimeNs: ___,
    ...attributes
  } = answer.attributes as Record<string, unknown>
  return expect.objectContaining({ attributes: expect.objectContaining(attributes) })
}

describe('a file that is open when its last name goes', () => {
  test.each(['overlay.unlink.held', 'overlay.unlink.intended', 'overlay.unlink.effect'])(
    'P7: lives on over a crash at %s',
    async (point) => {
      const client = await start('mirror')
      const node = await client.node('b')
      const handle = await client.open(node)
      const request: Operation = (overlay, context) => overlay.unlink(context, 1n, B('b'))
      const unique = await rig.cutShort(point, request)
      await rig.restart('worker')
      await rig.perform(request, {}, unique)
      expect(await client.exists('b')).toBe(false)
      expect((await client.read(node)).toString()).toBe(LONG)
      await client.write(node, 0, 'still')
      expect((await client.read(node, 0, 6)).toString()).toBe('stilll')
      await rig.restart('worker')
      expect((await client.read(node, 0, 6)).toString()).toBe('stilll')
      await client.close(node, handle)
      client.forgetAll()
      await expectSettled(rig)
    },
  )

  test('P7: lives on in staging over a crash in drain', async () => {
    const client = await start('drain')
    const node = await client.node('b')
    const handle = await client.open(node)
    const request: Operation = (overlay, context) => overlay.unlink(context, 1n, B('b'))
    const unique = await rig.cutShort('overlay.unlink.committed', request)
    await rig.restart('worker')
    await rig.perform(request, {}, unique)
    await client.write(node, 0, 'still')
    await rig.restart('worker')
    expect((await client.read(node, 0, 6)).toString()).toBe('stilll')
    await client.close(node, handle)
    client.forgetAll()
    await rig.reap()
    await expectSettled(rig)
  })
})

describe.each(['mirror', 'drain'] as const)('extended attributes in %s', (mode) => {
  const name = B('user.x')
  const set =
    (node: bigint): Operation =>
    (overlay, request) =>
      overlay.setxattr(request, node, name, B('value'), 1)
  const remove =
    (node: bigint): Operation =>
    (overlay, request) =>
      overlay.removexattr(request, node, name)

  test('P7: repeated after a crash at overlay.xattr.done they do not fail on their own effect', async () => {
    const client = await start(mode)
    const node = await client.node('a')
    const first = await rig.cutShort('overlay.xattr.done', set(node))
    await rig.restart('worker')
    await rig.perform(set(node), {}, first)
    await expect(rig.perform(set(node))).rejects.toMatchObject({ code: 'EEXIST' })
    const second = await rig.cutShort('overlay.xattr.done', remove(node))
    await rig.restart('worker')
    await rig.perform(remove(node), {}, second)
    await expect(rig.perform(remove(node))).rejects.toMatchObject({ code: 'ENODATA' })
    await expectSettled(rig)
  })

  test('P7: what never began fails as it would have, though it is repeated', async () => {
    const client = await start(mode)
    const node = await client.node('a')
    await expect(rig.perform(remove(node), {}, 99_999_998n)).rejects.toMatchObject({ code: 'ENODATA' })
    await rig.perform(set(node))
    await expect(rig.perform(set(node), {}, 99_999_998n)).rejects.toMatchObject({ code: 'EEXIST' })
  })
})

test('P2: an unlinked open file outlives its worker though the next one was told only of a write', async () => {
  const client = await start('drain')
  const { entry, open } = await rig.perform((overlay, request) =>
    overlay.create(request, 1n, B('new'), 0o600, 2),
  )
  await client.write(entry.nodeId, 0, 'before')
  await rig.restart('worker')
  await client.write(entry.nodeId, 6, ' after')
  await client.unlink('new')
  expect((await client.read(entry.nodeId)).toString()).toBe('before after')
  await rig.perform((overlay, request) => overlay.release(request, entry.nodeId, open.handle))
  rig.overlay.forget(entry.nodeId, 1n)
  expect(rig.catalog.get(entry.nodeId)).toBeUndefined()
  await expectSettled(rig)
})

test('a file removed past the overlay leaves catalog and store when its directory is listed', async () => {
  const client = await start('mirror')
  const node = await client.node('dir/c')
  client.forgetAll()
  rmSync(join(rig.source, 'dir/c'))
  await client.list(await client.node('dir'))
  expect(rig.catalog.get(node)).toBeUndefined()
  await expectSettled(rig)
})

describe.each(['mirror', 'drain'] as const)('a crash of background work in %s', (mode) => {
  test.each([
    'content.upload.chunks-stored',
    'content.upload.object-stored',
    'content.upload.recorded',
    'content.directory.shards-stored',
    'content.directory.header-stored',
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

describe('a crash of the reaper', () => {
  test.each([
    ['migration.reap.verified', true],
    ['migration.reap.flushed', true],
    ['migration.reap.removed', false],
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
      expect(rig.catalog.totals().drained).toBe(1)
      await expectSettled(rig)
      if (next === 'worker') await rig.stop()
    }
  })

  test('P1: at migration.reap.directory-removed the directory lists what was made in it', async () => {
    for (const next of ['worker', 'mount'] as const) {
      rig = await Rig.start({ mode: 'drain', fill })
      const client = new Client(rig)
      await client.create('dir/new', LONG)
      await client.overwrite('dir/c', 0, LONG)
      await rig.settle()
      rig.dieAt('migration.reap.directory-removed')
      void rig.reap().catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      client.forgetAll()
      // ENOENT from READDIR is what readdir(3) takes for the end: the directory would look empty.
      expect((await client.list(await client.node('dir'))).map(String).sort()).toEqual(['c', 'new'])
      await rig.migrate()
      await expectSettled(rig)
      if (next === 'worker') await rig.stop()
    }
  })
})

test('every fault point in src has its test here', () => {
  rig = { stop: () => Promise.resolve() } as Rig
  const source = new URL('../../../src/', import.meta.url).pathname
  const here = readFileSync(new URL(import.meta.url).pathname, 'utf8')
  const points = new Set<string>()
  for (const file of readdirSync(source, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue
    for (const [, point = ''] of readFileSync(join(source, file), 'utf8').matchAll(
      /faultPoint\(['`]([^'`]+)/g,
    )) {
      const kinds = point.includes('$') ? ['create', 'unlink', 'rename', 'link'] : ['']
      for (const kind of kinds) points.add(point.replace(/\$\{[^}]+\}/, kind))
    }
  }
  expect([...points].filter((point) => !here.includes(point))).toEqual([])
})
