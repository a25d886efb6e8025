import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { FsError, UsageError } from '../../../src/base/errors.ts'
import { MODES } from '../../../src/base/modes.ts'
import { ModeSwitch } from '../../../src/migration/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import { differences, diskTree } from '../../support/rig/trees.ts'

const LONG = 'l'.repeat(500)
let rig: Rig
afterEach(() => rig.stop())

async function start(options: RigOptions = {}): Promise<Client> {
  rig = await Rig.start({
    fill: (source) => {
      writeFileSync(join(source, 'a'), LONG)
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/b'), 'beta')
      symlinkSync('d/b', join(source, 's'))
    },
    ...options,
  })
  return new Client(rig)
}

describe('the mode', () => {
  test('P5: what was changed with SOURCE untouched is remembered, whatever mode a mount was to have', async () => {
    const client = await start({ mode: 'mirror', sourceReadonly: true })
    await client.create('new', 'not on SOURCE')
    const { catalog } = rig
    const mount = (sourceReadonly: boolean): ModeSwitch => new ModeSwitch(catalog, 'mirror', sourceReadonly)
    mount(true).admitMount('mirror')
    expect(() => mount(false).admitMount('mirror')).toThrow(UsageError)
    // One that dies before it has set its mode.
    mount(false).admitMount('drain')
    expect(() => mount(false).admitMount('mirror')).toThrow(UsageError)
  })

  test('P2: store-only is refused while anything is not in the store, and nothing changes', async () => {
    const client = await start({ mode: 'mirror' })
    await expect(rig.setMode('store-only')).rejects.toThrow(/not in the store yet/)
    expect(rig.modes.mode).toBe('mirror')
    expect(rig.modes.policy.writeTo).toBe('legacy')
    await rig.migrate()
    await rig.setMode('store-only')
    expect(rig.context.legacy()).toBeUndefined()
    expect(await client.readPath('a')).toBe(LONG)
    await expectSettled(rig)
  })

  // Whoever looked at the failures of a migration that had ended found files that could not be removed and were not to be.
  test('files that drain could not remove are no failures of a mode that leaves them where they are', async () => {
    const client = await start({ mode: 'drain' })
    await rig.migrate()
    rig.context.carrier.recordFailure(await client.node('a'), new FsError('EROFS', 'unlink a'))
    expect(rig.catalog.lists.failures(undefined, 10)).toHaveLength(1)
    await rig.setMode('store-only')
    expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
    expect(rig.catalog.lists.totals().failed).toBe(0)
  })

  test('P5: a mode that needs a complete volume is refused once something is only in the store', async () => {
    const client = await start({ mode: 'drain' })
    await client.overwrite('a', 0, 'changed')
    for (const mode of ['observe', 'mirror', 'prefer-store'] as const) {
      await expect(rig.setMode(mode)).rejects.toThrow(/refused/)
    }
    expect(rig.modes.mode).toBe('drain')
    await rig.setMode('drain')
    await expectSettled(rig)
  })

  test('goes all the way and half the way back under open files', async () => {
    const client = await start({ mode: 'observe' })
    const node = await client.node('a')
    const handle = await client.open(node)
    let expected = LONG
    for (const mode of [...MODES.slice(1), 'drain'] as const) {
      if (mode === 'store-only') await rig.migrate()
      await rig.setMode(mode)
      await client.write(node, 0, mode)
      expected = mode + expected.slice(mode.length)
      expect((await client.read(node)).toString()).toBe(expected)
      await rig.settle()
      expect((await client.read(node)).toString()).toBe(expected)
    }
    await client.close(node, handle)
    await rig.restart('mount')
    expect(rig.modes.mode).toBe('drain')
    expect(await client.readPath('a')).toBe(expected)
    await expectSettled(rig)
  })

  test('P2: a switch to store-only that a crash cuts short is repeated or undone, never half done', async () => {
    const client = await start({ mode: 'mirror' })
    await rig.migrate()
    rig.world.inject({ fault: 'unavailable', on: ['put'] })
    const refused = rig.setMode('store-only').catch((error: unknown) => error)
    rig.die()
    void refused
    await rig.restart('mount')
    rig.world.heal()
    expect(['mirror', 'store-only']).toContain(rig.modes.mode)
    expect(await client.readPath('a')).toBe(LONG)
    await expectSettled(rig)
  })
})

describe('a mode that is waited for', () => {
  test('P2, P4: comes by itself once the store takes everything', async () => {
    await start({ mode: 'mirror' })
    rig.world.inject({ fault: 'unavailable', on: ['put'], space: 'files', key: /^a$/ })
    const waiting = rig.waitForMode('store-only', new AbortController().signal)
    await clock.untilTrue(() => rig.built.mover.state === 'idle' && rig.catalog.lists.unstoredCount() === 1)
    expect(rig.modes.mode).toBe('mirror')
    rig.world.heal()
    await clock.until(waiting)
    expect(rig.modes.mode).toBe('store-only')
    await expectSettled(rig)
  })

  test('stays as it is where nobody waits any more', async () => {
    const client = await start({ mode: 'mirror' })
    rig.world.inject({ fault: 'unavailable', on: ['put'], space: 'files', key: /^a$/ })
    const gone = new AbortController()
    const waiting = rig.waitForMode('store-only', gone.signal)
    await clock.untilTrue(() => rig.built.mover.state === 'idle' && rig.catalog.lists.unstoredCount() === 1)
    gone.abort(new Error('the client has gone'))
    await expect(clock.until(waiting)).rejects.toThrow('the client has gone')
    expect(rig.modes.mode).toBe('mirror')
    rig.world.heal()
    expect(await client.readPath('a')).toBe(LONG)
    await expectSettled(rig)
  })

  test('is refused at once where waiting does not help', async () => {
    const client = await start({ mode: 'drain' })
    await client.create('new', LONG)
    const { signal } = new AbortController()
    await expect(clock.until(rig.waitForMode('mirror', signal))).rejects.toThrow(/mode mirror is refused/)
    await rig.stop()
    await start({ mode: 'observe' })
    await expect(clock.until(rig.waitForMode('store-only', signal))).rejects.toThrow(/not in the store yet/)
  })
})

test('P5: --source-readonly never touches the volume in any mode', async () => {
  const client = await start({ mode: 'mirror', sourceReadonly: true })
  const before = diskTree(rig.source)
  await client.overwrite('a', 0, 'changed')
  await client.unlink('d/b')
  await client.create('d/new', LONG)
  await client.rename('d', 'e')
  for (const mode of ['prefer-store', 'drain'] as const) {
    await rig.setMode(mode)
    await rig.migrate()
    await rig.reap()
    await expectSettled(rig)
    expect(differences(before, diskTree(rig.source))).toEqual([])
  }
  await rig.restart('mount')
  expect(await client.readPath('e/new')).toBe(LONG)
  expect(await client.exists('e/b')).toBe(false)
  expect(await client.exists('d')).toBe(false)
})

describe('the lease', () => {
  test('P1: a second state directory is refused', async () => {
    await start()
    await expect(Rig.start({ memory: rig.world.memory })).rejects.toThrow(
      /belongs to another state directory/,
    )
  })

  test('every mount raises the epoch, a successor worker keeps it', async () => {
    await start()
    const first = rig.epoch
    await rig.restart('worker')
    expect(rig.epoch).toBe(first)
    await rig.restart('mount')
    expect(rig.epoch).toBeGreaterThan(first)
    await expect(rig.lease.check(rig.catalog, rig.epoch)).resolves.toBeUndefined()
    await expect(rig.lease.check(rig.catalog, first)).rejects.toThrow(/taken over/)
  })
})

describe('the way back', () => {
  test.each(['mirror', 'drain', 'store-only'] as const)(
    'P5: restore out of %s writes the same tree',
    async (mode) => {
      const client = await start({ mode: 'mirror' })
      await rig.migrate()
      if (mode !== 'mirror') await rig.setMode(mode)
      const node = await client.node('a')
      await client.write(node, 2 * 1024 * 1024, 'far')
      await rig.perform((overlay, request) => overlay.link(request, node, 1n, Buffer.from('\xff', 'latin1')))
      await rig.perform((overlay, request) =>
        overlay.setattr(request, node, { mode: 0o640, uid: 3, gid: 4, mtime: 1_234_567_890_123_456_789n }),
      )
      await rig.perform((overlay, request) =>
        overlay.setxattr(request, node, Buffer.from('user.x'), Buffer.from('y'), 0),
      )
      await rig.settle()
      await client.overwrite('d/b', 0, 'not stored yet')
      const target = join(rig.root, 'restored')
      const { findings } = await rig.restoreTo(target)
      expect(findings).toEqual([])
      expect(differences(await client.tree(), diskTree(target))).toEqual([])
      await expect(rig.restoreTo(target)).rejects.toThrow(/not empty/)
    },
  )

  test('P1: what a rebuild cannot read is in the tree as an error, listed by verify; the rest is taken', async () => {
    const client = await start({ mode: 'drain' })
    await rig.migrate()
    await rig.settle()
    await client.create('d/c', LONG)
    await rig.settle()
    await rig.world.memory.delete('files', 'd/b', { epoch: rig.epoch + 1, version: 0 })
    const { rig: second, result } = await Rig.rebuilt(rig.world.memory)
    expect(result.failures.map(({ path }) => path)).toEqual(['d/b'])
    const other = new Client(second)
    expect(await other.node('d/c')).toBeTypeOf('bigint')
    await expect(other.node('d/b')).rejects.toThrow(/EIO|is not in the store/)
    const { differences } = await second.verify()
    expect(differences.map(({ path, kind }) => [path, kind])).toEqual([['d/b', 'missing']])
    expect(second.catalog.lists.failures(undefined, 10)).toHaveLength(1)
    expect(readdirSync(second.source)).toEqual([])
    await second.stop()
  })

  test('P5: restore says which files it could not write', async () => {
    await start({ mode: 'mirror' })
    await rig.migrate()
    await rig.setMode('store-only')
    await rig.world.memory.delete('files', 'd/b', { epoch: rig.epoch + 1, version: 0 })
    const { findings } = await rig.restoreTo(join(rig.root, 'restored'))
    expect(findings.map(({ path }) => path)).toEqual(['d/b'])
  })
})
