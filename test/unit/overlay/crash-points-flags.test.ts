import { constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { FLAG_APPEND, FLAG_IMMUTABLE } from '../../../src/base/inode-flags.ts'
import { closeDescriptor, flagsOf, openAt, setFlagsOf } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const AT_FDCWD = -100
const { O_APPEND, O_RDWR } = constants

function withFile<T>(path: string, body: (descriptor: number) => T): T {
  const descriptor = openAt(AT_FDCWD, Buffer.from(path), 0)
  try {
    return body(descriptor)
  } finally {
    closeDescriptor(descriptor)
  }
}

const flagOnDisk = (path: string): number => withFile(path, flagsOf) & (FLAG_IMMUTABLE | FLAG_APPEND)

function whyNoFlags(): string | undefined {
  const path = `/dev/shm/ferryfs-flags-${process.pid}`
  try {
    writeFileSync(path, '')
    withFile(path, (descriptor) => setFlagsOf(descriptor, FLAG_IMMUTABLE))
    withFile(path, (descriptor) => setFlagsOf(descriptor, 0))
    rmSync(path)
    return undefined
  } catch (error) {
    return `tmpfs here has no flags: ${String(error)}`
  }
}

const reason = whyNoFlags()
if (reason) console.log(reason)

let rig: Rig
let client: Client

/** What the source has, with its flags; cleared when the test ends. */
const GUARDED: Readonly<Record<string, number>> = {
  imm: FLAG_IMMUTABLE,
  app: FLAG_APPEND,
  idir: FLAG_IMMUTABLE,
  adir: FLAG_APPEND,
}

function fill(source: string): void {
  for (const name of ['imm', 'app', 'free']) writeFileSync(join(source, name), `content of ${name}`)
  for (const name of ['idir', 'adir']) {
    mkdirSync(join(source, name))
    writeFileSync(join(source, name, 'x'), 'x')
  }
  for (const [name, flags] of Object.entries(GUARDED))
    withFile(join(source, name), (descriptor) => setFlagsOf(descriptor, flags))
}

async function start(mode: 'mirror' | 'drain' | 'store-only'): Promise<void> {
  rig = await Rig.start({ mode, fill })
  client = new Client(rig)
}

afterEach(async () => {
  for (const name of Object.keys(GUARDED)) {
    const path = join(rig.source, name)
    if (existsSync(path)) withFile(path, (descriptor) => setFlagsOf(descriptor, 0))
  }
  await rig.stop()
})

const open = async (node: bigint, flags: number): Promise<void> => {
  const { handle } = await rig.perform((overlay, request) => overlay.open(request, node, flags))
  await client.close(node, handle)
}

const append = async (path: string, text: string, repeated?: bigint): Promise<number> => {
  const node = await client.node(path)
  const { size } = (await client.lookup(path))?.attributes ?? expect.unreachable()
  return rig.perform(
    (overlay, request) =>
      overlay.write(request, node, 0n, size, Buffer.from(text), {
        killSuidGid: false,
        flags: O_RDWR | O_APPEND,
      }),
    {},
    repeated,
  )
}

const setFlags = async (path: string, flags: number): Promise<void> => {
  const node = await client.node(path)
  await rig.perform((overlay, request) => overlay.setFlags(request, node, flags))
}

const getFlags = async (path: string): Promise<number> => {
  const node = await client.node(path)
  return rig.perform((overlay, request) => overlay.getFlags(request, node))
}

const refused = (act: Promise<unknown>, what: string): Promise<void> =>
  expect(act, what).rejects.toMatchObject({ code: 'EPERM' })

/** What ext4 refuses of the guarded files, and what it allows; as chattr(1) says it. */
async function expectGuarded(): Promise<void> {
  const [imm, app] = [await client.node('imm'), await client.node('app')]
  const set = (node: bigint, changes: object): Promise<unknown> =>
    rig.perform((overlay, request) => overlay.setattr(request, node, changes))
  await refused(open(imm, O_RDWR), 'open of imm')
  await refused(open(imm, O_RDWR | O_APPEND), 'append to imm')
  await refused(open(app, O_RDWR), 'open of app')
  await open(app, O_RDWR | O_APPEND)
  for (const [node, name] of [
    [imm, 'imm'],
    [app, 'app'],
  ] as const) {
    await refused(client.write(node, 0, 'other'), `write to ${name}`)
    await refused(set(node, { size: 0 }), `truncate ${name}`)
    await refused(set(node, { mode: 0o600 }), `chmod ${name}`)
    await refused(set(node, { uid: 5 }), `chown ${name}`)
    await refused(set(node, { mtime: 5n }), `utimes ${name}`)
    await refused(
      rig.perform((overlay, request) =>
        overlay.setxattr(request, node, Buffer.from('trusted.a'), Buffer.from('b'), 0),
      ),
      `setxattr ${name}`,
    )
    await refused(client.unlink(name), `unlink ${name}`)
    await refused(client.rename(name, 'other'), `rename ${name}`)
    await refused(client.rename('free', name), `rename over ${name}`)
    await refused(client.link(name, 'second'), `link ${name}`)
  }
  await refused(set(imm, { atime: 'now', mtime: 'now' }), 'touch imm')
  await refused(set(app, { mtime: 'now' }), 'one time of app')
  await set(app, { atime: 'now', mtime: 'now' })
  for (const name of ['idir', 'adir']) {
    await refused(client.unlink(`${name}/x`), `unlink in ${name}`)
    await refused(client.rename(`${name}/x`, 'moved'), `rename out of ${name}`)
    await refused(client.rename(name, 'moved'), `rename ${name}`)
  }
  await refused(client.create('idir/new'), 'create in idir')
  await refused(client.mkdir('idir/new'), 'mkdir in idir')
  await refused(client.link('free', 'idir/new'), 'link into idir')
  await refused(client.rename('free', 'idir/new'), 'rename into idir')
  const text = await client.readPath('app')
  expect(await append('app', ' and more')).toBe(9)
  expect(await client.readPath('app')).toBe(`${text} and more`)
  expect(await client.readPath('imm')).toBe('content of imm')
}

describe.skipIf(reason !== undefined)(
  'P1: immutable and append-only files are what they are on the volume',
  () => {
    test.each(['mirror', 'drain', 'store-only'] as const)('in %s, and in the next mount', async (mode) => {
      await start(mode)
      await expectGuarded()
      await rig.settle()
      await rig.restart('mount')
      client = new Client(rig)
      await expectGuarded()
      expect((await getFlags('imm')) & FLAG_IMMUTABLE).toBe(FLAG_IMMUTABLE)
    })

    test('in a catalog that is made from the store alone', async () => {
      await start('mirror')
      await rig.migrate()
      await rig.settle()
      const first = rig
      const { rig: rebuilt } = await Rig.rebuilt(rig.world.memory)
      rig = rebuilt
      client = new Client(rebuilt)
      try {
        await expectGuarded()
      } finally {
        await rebuilt.stop()
        rig = first
      }
    })

    test('P3: they stay on the volume, are listed, and store-only is refused until they are set free in the mount', async () => {
      await start('drain')
      await rig.migrate()
      await rig.settle()
      await rig.reap()
      for (const path of ['imm', 'app', 'idir/x', 'adir/x'])
        expect(existsSync(join(rig.source, path)), path).toBe(true)
      expect(existsSync(join(rig.source, 'free'))).toBe(false)
      const reasons = rig.catalog.lists.failures(undefined, 10).map(({ reason: why }) => why)
      expect(reasons).toHaveLength(4)
      for (const why of reasons) expect(why).toMatch(/^kept on the volume: the (immutable|append-only) flag/)
      await expect(rig.setMode('store-only')).rejects.toThrow(/4 files are kept on the volume/)
      for (const name of Object.keys(GUARDED)) {
        await setFlags(name, 0)
        expect(flagOnDisk(join(rig.source, name)), name).toBe(0)
      }
      await rig.settle()
      await rig.reap()
      expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
      for (const name of Object.keys(GUARDED)) expect(existsSync(join(rig.source, name)), name).toBe(false)
      await rig.setMode('store-only')
      await client.overwrite('imm', 0, 'changed')
      expect(await client.readPath('imm')).toBe('changed of imm')
    })

    test('P2: what is appended to one on the volume is there once, also where the request is sent again', async () => {
      await start('mirror')
      const node = await client.node('app')
      const { size } = (await client.lookup('app'))?.attributes ?? expect.unreachable()
      const write: Parameters<Rig['perform']>[0] = (overlay, request) =>
        overlay.write(request, node, 0n, size, Buffer.from(' once'), {
          killSuidGid: false,
          flags: O_RDWR | O_APPEND,
        })
      const first = await rig.cutShort('overlay.write.effect', write)
      await rig.restart('worker')
      client = new Client(rig)
      expect(await rig.perform(write, {}, first)).toBe(5)
      expect(readFileSync(join(rig.source, 'app'), 'utf8')).toBe('content of app once')
    })

    test('only root sets and clears them', async () => {
      await start('drain')
      const node = await client.node('free')
      const set: Parameters<Rig['perform']>[0] = (overlay, request) =>
        overlay.setFlags(request, node, FLAG_IMMUTABLE)
      await refused(rig.perform(set, { uid: 1000 }), 'by a user')
      await rig.perform(set)
      expect(await getFlags('free')).toBe(FLAG_IMMUTABLE)
      await refused(client.unlink('free'), 'unlink')
      await setFlags('free', 0)
      await client.unlink('free')
    })
  },
)

describe.skipIf(reason !== undefined)('a crash at overlay.flags.committed', () => {
  test.each(['worker', 'mount'] as const)(
    'P4: (new %s) leaves the flag of the legacy copy, listed until it is cleared again',
    async (as) => {
      await start('drain')
      await rig.migrate()
      await rig.settle()
      await client.node('imm')
      const node = await client.node('imm')
      const set: Parameters<Rig['perform']>[0] = (overlay, request) => overlay.setFlags(request, node, 0)
      const first = await rig.cutShort('overlay.flags.committed', set)
      await rig.restart(as)
      client = new Client(rig)
      await client.node('imm')
      expect(await getFlags('imm')).toBe(0)
      expect(flagOnDisk(join(rig.source, 'imm'))).toBe(FLAG_IMMUTABLE)
      await rig.settle()
      await rig.reap()
      expect(existsSync(join(rig.source, 'imm'))).toBe(true)
      await rig.perform(set, {}, as === 'worker' ? first : undefined)
      await rig.settle()
      await rig.reap()
      expect(existsSync(join(rig.source, 'imm'))).toBe(false)
      expect(await client.readPath('imm')).toBe('content of imm')
    },
  )
})
