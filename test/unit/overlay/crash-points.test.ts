import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import type { Answer, RequestContext } from '../../../src/fuse/operations.ts'
import type { Overlay } from '../../../src/overlay/index.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { type Caller, Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

type Operation = (overlay: Overlay, request: RequestContext) => Answer<unknown>

interface Scenario {
  readonly point: string
  readonly mode: Mode
  readonly what: string
  /** The request under way at the crash. */
  readonly operation: (client: Client) => Promise<Operation>
  readonly caller?: Partial<Caller>
  /** Whether it has taken place for somebody who never got the answer (a new mount); `partly`: as far as it got. */
  readonly lasts: boolean | 'partly'
  /** What the tree shows once it has taken place. */
  readonly done: (client: Client) => Promise<void>
  readonly undone: (client: Client) => Promise<void>
  readonly partly?: (client: Client) => Promise<void>
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

const attributes = (path: string, expected: object) => async (client: Client) =>
  expect((await client.lookup(path))?.attributes).toMatchObject(expected)

type Case = Omit<Scenario, 'point' | 'mode' | 'lasts'>

const create: Case = {
  what: 'create',
  operation: async () => (overlay, request) => overlay.create(request, 1n, B('new'), 0o640, 2),
  done: both(there('new', ''), attributes('new', { mode: 0o100640 })),
  undone: gone('new'),
}
const createSetId: Case = {
  what: 'create with set-id bits by somebody else than the daemon',
  caller: { uid: 1000, gid: 1000 },
  operation: async () => (overlay, request) => overlay.mknod(request, 1n, B('new'), 0o106755, 0),
  done: attributes('new', { mode: 0o106755, uid: 1000, gid: 1000 }),
  undone: gone('new'),
}
const mkdir: Case = {
  what: 'mkdir',
  operation: async () => (overlay, request) => overlay.mkdir(request, 1n, B('new'), 0o750),
  done: both(attributes('new', { mode: 0o040750, nlink: 2 }), async (client) =>
    expect(await client.list(await client.node('new'))).toEqual([]),
  ),
  undone: gone('new'),
}
const symlink: Case = {
  what: 'symlink',
  operation: async () => (overlay, request) => overlay.symlink(request, 1n, B('new'), B('dir/c')),
  done: async (client) =>
    expect((await client.describe(await client.node('new'))).content.toString()).toBe('dir/c'),
  undone: gone('new'),
}
const mknod: Case = {
  what: 'mknod',
  operation: async () => (overlay, request) => overlay.mknod(request, 1n, B('new'), 0o020600, 0x103),
  done: attributes('new', { mode: 0o020600, rdev: 0x103 }),
  undone: gone('new'),
}
const unlink: Case = {
  what: 'unlink',
  operation: async () => (overlay, request) => overlay.unlink(request, 1n, B('a')),
  done: gone('a'),
  undone: there('a', 'alpha'),
}
const rmdir: Case = {
  what: 'rmdir',
  operation: async () => (overlay, request) => overlay.rmdir(request, 1n, B('empty')),
  done: gone('empty'),
  undone: async (client) => expect(await client.exists('empty')).toBe(true),
}
const rename: Case = {
  what: 'rename over a file',
  operation: async (client) => {
    const dir = await client.node('dir')
    return (overlay, request) => overlay.rename(request, 1n, B('a'), dir, B('c'), 0)
  },
  done: both(gone('a'), there('dir/c', 'alpha')),
  undone: both(there('a', 'alpha'), there('dir/c', 'gamma')),
}
const renaming = (from: string, to: string, flags: number) => async (): Promise<Operation> => {
  return (overlay, request) => overlay.rename(request, 1n, B(from), 1n, B(to), flags)
}
const exchange: Case = {
  what: 'rename that exchanges',
  operation: renaming('a', 'b', RENAME_EXCHANGE),
  done: both(there('a', LONG), there('b', 'alpha')),
  undone: both(there('a', 'alpha'), there('b', LONG)),
}
const noReplace: Case = {
  what: 'rename that replaces nothing',
  operation: renaming('a', 'moved', RENAME_NOREPLACE),
  done: both(gone('a'), there('moved', 'alpha')),
  undone: both(there('a', 'alpha'), gone('moved')),
}
const renameDirectory: Case = {
  what: 'rename of a directory over an empty one',
  operation: renaming('dir', 'empty', 0),
  done: both(gone('dir'), there('empty/c', 'gamma')),
  undone: both(there('dir/c', 'gamma'), async (client) =>
    expect(await client.list(await client.node('empty'))).toEqual([]),
  ),
}
const link: Case = {
  what: 'link',
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
  what: 'truncate',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { size: 10 })
  },
  done: there('b', LONG.slice(0, 10)),
  undone: there('b', LONG),
}
const chmod: Case = {
  what: 'chmod',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { mode: 0o600 })
  },
  done: async (client) => expect((await client.lookup('b'))?.attributes.mode).toBe(0o100600),
  undone: async (client) => expect((await client.lookup('b'))?.attributes.mode).toBe(0o100644),
}
const write: Case = {
  what: 'write',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.write(request, node, 0n, 5, B('WRITTEN'), WRITE)
  },
  done: there('b', `lllllWRITTEN${LONG.slice(12)}`),
  undone: there('b', LONG),
}

const chown: Case = {
  what: 'chown and chmod in one',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { uid: 3, gid: 4, mode: 0o600 })
  },
  done: attributes('b', { uid: 3, gid: 4, mode: 0o100600 }),
  undone: attributes('b', { uid: 0, gid: 0, mode: 0o100644 }),
  partly: attributes('b', { uid: 3, gid: 4, mode: 0o100644 }),
}
const utimes: Case = {
  what: 'utimes',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.setattr(request, node, { atime: 5n, mtime: 1_000_000_007n })
  },
  done: attributes('b', { mtimeNs: 1_000_000_007n }),
  undone: async (client) => expect((await client.lookup('b'))?.attributes.mtimeNs).toBeGreaterThan(1n << 60n),
}
const allocate: Case = {
  what: 'fallocate',
  operation: async (client) => {
    const node = await client.node('b')
    return (overlay, request) => overlay.fallocate(request, node, 0n, 0, 150, 100)
  },
  done: there('b', LONG + '\0'.repeat(50)),
  undone: there('b', LONG),
}
const punch: Case = {
  what: 'fallocate that punches a hole',
  operation: async (client) => {
    const node = await client.node('b')
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    return (overlay, request) => overlay.fallocate(request, node, 0n, mode, 5, 7)
  },
  done: there('b', `lllll${'\0'.repeat(7)}${LONG.slice(12)}`),
  undone: there('b', LONG),
}
const copy: Case = {
  what: 'copy_file_range',
  operation: async (client) => {
    const source = { node: await client.node('a'), handle: 0n, offset: 1 }
    const destination = { node: await client.node('b'), handle: 0n, offset: 198 }
    return (overlay, request) => overlay.copyFileRange(request, source, destination, 4)
  },
  done: there('b', `${LONG.slice(2)}lpha`),
  undone: there('b', LONG),
}
const fsync: Case = {
  what: 'fsync',
  operation: async (client) => {
    const node = await client.node('b')
    await client.write(node, 0, 'WRITTEN')
    return (overlay, request) => overlay.fsync(request, node, 0n, false)
  },
  done: there('b', `WRITTEN${LONG.slice(7)}`),
  undone: there('b', `WRITTEN${LONG.slice(7)}`),
}

const onVolume = (point: string, lasts: Scenario['lasts'], given: Case): Scenario => ({
  point,
  mode: 'mirror',
  lasts,
  ...given,
})
const inCatalog = (point: string, lasts: Scenario['lasts'], given: Case): Scenario => ({
  point,
  mode: 'drain',
  lasts,
  ...given,
})

const SCENARIOS: readonly Scenario[] = [
  onVolume('overlay.create.intended', false, create),
  onVolume('overlay.create.effect', true, create),
  onVolume('overlay.create.owned', true, createSetId),
  onVolume('overlay.create.effect', true, mkdir),
  onVolume('overlay.create.effect', true, symlink),
  onVolume('overlay.create.effect', true, mknod),
  onVolume('overlay.unlink.intended', false, unlink),
  onVolume('overlay.unlink.effect', true, unlink),
  onVolume('overlay.unlink.intended', false, rmdir),
  onVolume('overlay.rmdir.effect', true, rmdir),
  onVolume('overlay.rename.intended', false, rename),
  onVolume('overlay.rename.effect', true, rename),
  onVolume('overlay.rename.intended', false, exchange),
  onVolume('overlay.rename.effect', true, exchange),
  onVolume('overlay.rename.effect', true, noReplace),
  onVolume('overlay.rename.intended', false, renameDirectory),
  onVolume('overlay.rename.effect', true, renameDirectory),
  onVolume('overlay.link.intended', false, link),
  onVolume('overlay.link.effect', true, link),
  onVolume('overlay.truncate.dirty', false, truncate),
  onVolume('overlay.setattr.done', true, truncate),
  onVolume('overlay.setattr.resized', true, truncate),
  onVolume('overlay.attributes.dirty', false, chmod),
  onVolume('overlay.attributes.owned', 'partly', chown),
  onVolume('overlay.attributes.changed', true, chmod),
  onVolume('overlay.attributes.changed', true, chown),
  onVolume('overlay.attributes.dirty', false, utimes),
  onVolume('overlay.attributes.changed', true, utimes),
  onVolume('overlay.write.dirty', false, write),
  onVolume('overlay.write.effect', true, write),
  onVolume('overlay.fallocate.dirty', false, allocate),
  onVolume('overlay.fallocate.effect', true, allocate),
  onVolume('overlay.fallocate.effect', true, punch),
  onVolume('overlay.copy.dirty', false, copy),
  onVolume('overlay.copy.effect', true, copy),
  onVolume('overlay.setattr.done', true, chmod),
  inCatalog('overlay.create.committed', true, create),
  inCatalog('overlay.create.committed', true, createSetId),
  inCatalog('overlay.create.committed', true, mkdir),
  inCatalog('overlay.create.committed', true, symlink),
  inCatalog('overlay.create.committed', true, mknod),
  inCatalog('overlay.unlink.committed', true, unlink),
  inCatalog('overlay.rmdir.committed', true, rmdir),
  inCatalog('overlay.rename.committed', true, rename),
  inCatalog('overlay.rename.committed', true, exchange),
  inCatalog('overlay.rename.committed', true, noReplace),
  inCatalog('overlay.rename.committed', true, renameDirectory),
  inCatalog('overlay.link.committed', true, link),
  inCatalog('content.write.begun', false, write),
  inCatalog('content.write.filled', false, write),
  inCatalog('content.write.staged', false, write),
  inCatalog('content.allocate.punched', false, punch),
  inCatalog('overlay.fallocate.effect', true, allocate),
  inCatalog('overlay.fallocate.effect', true, punch),
  inCatalog('content.fsync.synced', true, fsync),
  inCatalog('content.write.filled', false, truncate),
  // Once it is intended a truncation is carried out, by whoever comes next.
  inCatalog('content.truncate.intended', true, truncate),
  inCatalog('content.truncate.cut', true, truncate),
  inCatalog('overlay.setattr.resized', true, truncate),
  inCatalog('overlay.setattr.done', true, chmod),
  inCatalog('overlay.setattr.done', true, chown),
  inCatalog('overlay.setattr.done', true, utimes),
]

let rig: Rig

afterEach(() => rig.stop())

async function start(mode: Mode): Promise<Client> {
  rig = await Rig.start({ mode, fill })
  await rig.migrate()
  await rig.settle()
  return new Client(rig)
}

describe.each(SCENARIOS)('$what, a crash at $point in $mode', (scenario) => {
  const { point, mode, operation, lasts, done, undone, caller = {}, partly = undone } = scenario

  test('P7: the next worker answers the repeated request, in effect once', async () => {
    const client = await start(mode)
    const request = await operation(client)
    const unique = await rig.cutShort(point, request, caller)
    await rig.restart('worker')
    const answer = await rig.perform(request, caller, unique)
    await done(client)
    // The kernel may repeat it once more if that worker dies too before the answer is out.
    await rig.restart('worker')
    expect(await rig.perform(request, caller, unique)).toEqual(stableAnswer(answer))
    await done(client)
    client.forgetAll()
    await expectSettled(rig)
  })

  test(`P2: a new mount finds it ${lasts === 'partly' ? 'as far as it got' : lasts ? 'done' : 'not begun'}`, async () => {
    const client = await start(mode)
    await rig.cutShort(point, await operation(client), caller)
    await rig.restart('mount')
    const expected = lasts === 'partly' ? partly : lasts ? done : undone
    await expected(client)
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

  test.each(['overlay.unlink.held', 'overlay.rename.intended', 'overlay.rename.effect'])(
    'P7: lives on where another takes its name, over a crash at %s',
    async (point) => {
      const client = await start('mirror')
      const node = await client.node('b')
      const handle = await client.open(node)
      const request: Operation = (overlay, context) => overlay.rename(context, 1n, B('a'), 1n, B('b'), 0)
      const unique = await rig.cutShort(point, request)
      await rig.restart('worker')
      await rig.perform(request, {}, unique)
      expect(await client.readPath('b')).toBe('alpha')
      expect((await client.read(node)).toString()).toBe(LONG)
      await client.close(node, handle)
      client.forgetAll()
      await expectSettled(rig)
    },
  )

  test('P6: what a killed worker had the supervisor hold for an unlink that never came is let go of', async () => {
    const client = await start('mirror')
    const node = await client.node('b')
    await client.open(node)
    await rig.cutShort('overlay.unlink.held', (overlay, context) => overlay.unlink(context, 1n, B('b')))
    expect(rig.held).toHaveLength(1)
    // The caller was killed too: the request is not repeated.
    await rig.restart('worker')
    expect(rig.held).toEqual([])
    expect((await client.read(node)).toString()).toBe(LONG)
    await expectSettled(rig)
  })

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

  test('P7: repeated after a crash at overlay.xattr.begun they take place once', async () => {
    const client = await start(mode)
    const node = await client.node('a')
    const first = await rig.cutShort('overlay.xattr.begun', set(node))
    await rig.restart('worker')
    await rig.perform(set(node), {}, first)
    await expect(rig.perform(set(node))).rejects.toMatchObject({ code: 'EEXIST' })
    const second = await rig.cutShort('overlay.xattr.begun', remove(node))
    await rig.restart('worker')
    await rig.perform(remove(node), {}, second)
    await expect(rig.perform(remove(node))).rejects.toMatchObject({ code: 'ENODATA' })
    await expectSettled(rig)
  })

  test.each([
    ['overlay.xattr.begun', false],
    ['overlay.xattr.done', true],
  ] as const)('P2: a new mount after a crash at %s finds it done: %s', async (point, lasts) => {
    const client = await start(mode)
    const node = await client.node('a')
    await rig.cutShort(point, set(node))
    await rig.restart('mount')
    const xattrs = async (): Promise<number> =>
      (await rig.perform((overlay, request) => overlay.listxattr(request, node))).length
    await client.node('a')
    expect(await xattrs()).toBe(lasts ? 1 : 0)
    if (!lasts) await rig.perform(set(node))
    await rig.cutShort(point, remove(node))
    await rig.restart('mount')
    await client.node('a')
    expect(await xattrs()).toBe(lasts ? 0 : 1)
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
  // At once, or when the copy that is under way ends.
  await expectSettled(rig)
  expect(rig.catalog.get(entry.nodeId)).toBeUndefined()
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
