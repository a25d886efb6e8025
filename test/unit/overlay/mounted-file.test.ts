import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, linkSync, mkdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import { Client } from '../../support/rig/client.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { Rig } from '../../support/rig/rig.ts'

// A file of another disk is mounted on a file of SOURCE, and goes: between two mounts, and between any two steps of what was begun
// while it was there. What is left is the empty file that it was mounted on, which is another file, and no newer state of this one.

const CONTENT = 'on the other disk'
const EIO = { code: 'EIO' }
const MISSING = expect.stringMatching(/^a file system that was mounted there is missing/)
const isRoot = process.getuid?.() === 0

let rig: Rig
let client: Client
let disk: string
const onSource = (name: string): string => join(rig.source, name)
const attach = (): void => void execFileSync('mount', ['--bind', join(disk, 'f'), onSource('c/file')])
const detach = (): void => void execFileSync('umount', ['-l', onSource('c/file')])
const failures = () => [...rig.catalog.lists.failures(undefined, 10)].map(({ reason }) => reason)

async function start(mode: Mode): Promise<void> {
  rig = await Rig.start({
    mode,
    fill(source) {
      disk = `${source}-disk`
      mkdirSync(disk)
      execFileSync('mount', ['-t', 'tmpfs', 'none', disk])
      mkdirSync(join(source, 'c'))
      mkdirSync(join(source, 'below'))
      writeFileSync(join(disk, 'f'), CONTENT)
      writeFileSync(join(source, 'c/file'), '')
      execFileSync('mount', ['--bind', join(disk, 'f'), join(source, 'c/file')])
    },
  })
  client = new Client(rig)
}

/** It went while nobody served. */
async function remountWithout(): Promise<void> {
  detach()
  await rig.restart('mount')
}

async function expectBack(): Promise<void> {
  attach()
  await rig.migrate()
  await rig.settle()
  expect(await client.readPath('c/file')).toBe(CONTENT)
  expect((await rig.verify()).differences).toEqual([])
}

const unmount = (): void => {
  for (const at of [onSource('c/file'), onSource('below'), disk]) spawnSync('umount', ['-q', '-l', at])
}

describe.skipIf(!isRoot)('a file that was mounted on a file of SOURCE', () => {
  beforeEach(() => {
    disk = ''
  })

  afterEach(async () => {
    unmount()
    await rig.stop()
  })

  test('P1 P2: a removal that a kill cut short did not take place because the mount is missing', async () => {
    await start('mirror')
    await rig.migrate()
    await rig.settle()
    const { parent, name } = await client.place('c/file')
    const unlink = rig.cutShort('overlay.unlink.intended', (overlay, request) =>
      overlay.unlink(request, parent, name),
    )
    const unique = await unlink
    detach()
    await rig.restart('worker')
    await expect(
      rig.perform((overlay, request) => overlay.unlink(request, parent, name), {}, unique),
    ).rejects.toMatchObject(EIO)
    await expect(client.readPath('c/file')).rejects.toMatchObject(EIO)
    expect(existsSync(onSource('c/file'))).toBe(true)
    await expectBack()
  })

  test.each(['migration.reap.verified', 'migration.reap.flushed'])(
    'P2 P3: gone at %s, nothing is removed, forgotten or given back',
    async (point) => {
      await start('drain')
      const node = await client.node('c/file')
      await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
      await rig.settle()
      const before = rig.catalog.get(node)
      expect(before).toMatchObject({ authority: 'catalog', base: 'store' })
      const { legacyIno, legacyDev } = before ?? {}
      atPoint(point, detach)
      await rig.reap()
      atPoint(point, undefined)
      for (let round = 0; round < 2; round += 1) {
        expect(statSync(onSource('c/file')).size).toBe(0)
        expect(rig.catalog.get(node)).toMatchObject({ authority: 'catalog', legacyIno, legacyDev })
        expect(await client.readPath('c/file')).toBe(CONTENT)
        expect(failures()).toEqual([MISSING])
        expect((await rig.verify()).differences).toMatchObject([{ path: 'c/file', detail: MISSING }])
        await rig.restart('mount')
        await rig.reap()
      }
      await expectBack()
    },
  )

  test('P2: taken over and not copied yet, its bytes are not those of the file below it', async () => {
    await start('drain')
    const node = await client.node('c/file')
    rig.world.inject({ fault: 'timeout', on: ['put'] })
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    expect(rig.catalog.get(node)).toMatchObject({ authority: 'catalog', base: 'legacy' })
    await remountWithout()
    await expect(client.readPath('c/file')).rejects.toMatchObject(EIO)
    expect(rig.catalog.get(node)).toMatchObject({ authority: 'catalog', base: 'legacy' })
    rig.world.heal()
    expect((await rig.verify()).differences).toMatchObject([{ path: 'c/file', detail: MISSING }])
    await expectBack()
  })

  test('P2: of two names the one that is there goes on, the other is listed until it is back', async () => {
    await start('mirror')
    execFileSync('mount', ['--bind', disk, onSource('below')])
    linkSync(join(disk, 'f'), join(disk, 'second'))
    await rig.migrate()
    await rig.settle()
    const node = await client.node('c/file')
    expect(await client.node('below/second')).toBe(node)
    await remountWithout()
    await expect(client.readPath('c/file')).rejects.toMatchObject(EIO)
    expect(await client.readPath('below/second')).toBe(CONTENT)
    // Met under a name that is new: the others are looked at.
    linkSync(join(disk, 'f'), join(disk, 'third'))
    expect(await client.node('below/third')).toBe(node)
    await expect(client.readPath('c/file')).rejects.toMatchObject(EIO)
    // The link was a change of the file past the overlay.
    await rig.migrate()
    await rig.settle()
    expect(await client.readPath('below/second')).toBe(CONTENT)
    await expect(client.readPath('c/file')).rejects.toMatchObject(EIO)
    expect(await client.readPath('below/second')).toBe(CONTENT)
    expect(failures()).toEqual([MISSING])
    expect((await rig.verify()).differences).toMatchObject([{ detail: MISSING }])
    await expectBack()
    expect(failures()).toEqual([])
  })

  test('P2: it is missed where its directory was renamed through the overlay', async () => {
    await start('prefer-store')
    await rig.migrate()
    await rig.settle()
    execFileSync('umount', ['-l', onSource('c/file')])
    await client.rename('c', 'e')
    await rig.migrate()
    await rig.settle()
    expect(await client.readPath('e/file')).toBe(CONTENT)
    expect(statSync(onSource('e/file')).size).toBe(0)
    expect((await rig.verify()).differences).toMatchObject([{ path: 'e/file', detail: MISSING }])
    execFileSync('mount', ['--bind', join(disk, 'f'), onSource('e/file')])
    expect(await client.readPath('e/file')).toBe(CONTENT)
    expect((await rig.verify()).differences).toEqual([])
    execFileSync('umount', ['-l', onSource('e/file')])
  })

  test('P1: moved past the overlay to SOURCE under another name it is an ordinary file', async () => {
    await start('mirror')
    await rig.migrate()
    await rig.settle()
    detach()
    copyFileSync(join(disk, 'f'), onSource('c/moved'))
    unlinkSync(join(disk, 'f'))
    unlinkSync(onSource('c/file'))
    await rig.restart('mount')
    expect(await client.readPath('c/moved')).toBe(CONTENT)
    expect(await client.exists('c/file')).toBe(false)
    await rig.migrate()
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
    expect(failures()).toEqual([])
  })
})
