import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const OWN = 'written at the mount'
const PAST = 'written past the overlay, and newer'
const AT = new Date('2020-01-01T00:00:00Z')

let rig: Rig
let client: Client
const onDisk = (name: string): string => join(rig.source, name)
const listed = () => [...rig.catalog.lists.failures(undefined, 10)]

/** In `drain` a file is changed at the mount; the store has it, the legacy copy has not gone yet. */
beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill(source) {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), 'as it was at first..')
      utimesSync(join(source, 'd/f'), AT, AT)
      linkSync(join(source, 'd/f'), join(source, 'second'))
    },
  })
  client = new Client(rig)
  await client.node('second')
  await client.overwrite('d/f', 0, OWN)
  await rig.settle()
})

afterEach(() => rig.stop())

async function expectKept(path: string, content: string): Promise<void> {
  await rig.reap()
  expect(readFileSync(onDisk(path), 'utf8')).toBe(content)
  expect(await client.readPath('d/f')).toBe(OWN)
  expect((await rig.verify()).differences).toContainEqual(
    expect.objectContaining({ kind: 'differs', detail: expect.stringContaining('another version') }),
  )
  await expect(rig.setMode('store-only')).rejects.toThrow(/1 file has another version on SOURCE/)
}

/** Somebody has looked at it, and has removed it there. */
async function expectOver(): Promise<void> {
  for (const name of ['d/f', 'second']) rmSync(onDisk(name), { force: true })
  await rig.reap()
  await rig.reap()
  expect(listed()).toEqual([])
  await expectSettled(rig)
  await rig.setMode('store-only')
  expect(await client.readPath('d/f')).toBe(OWN)
}

describe('P3: a file that was changed on both sides', () => {
  test.each([
    ['in place', PAST],
    ['in place, with its size and mtime put back', 'otherwise, as long..'],
  ])(
    '%s: the version on the volume stays, and is listed until somebody has removed it',
    async (_, content) => {
      writeFileSync(onDisk('d/f'), content)
      if (content !== PAST) utimesSync(onDisk('d/f'), AT, AT)
      await expectKept('d/f', content)
      await rig.restart('mount')
      await expectKept('second', content)
      await expectOver()
    },
  )

  test('once more at the mount: it stays as well', async () => {
    writeFileSync(onDisk('d/f'), PAST)
    await client.overwrite('d/f', 0, 'WRITTEN')
    await client.overwrite('d/f', 0, 'written')
    await rig.settle()
    await expectKept('d/f', PAST)
    await expectOver()
  })
})

test('P3: the copy of a file that was changed at the mount alone goes with all its names, over a crash as well', async () => {
  rig.dieAt('migration.reap.removed')
  void rig.reap().catch(() => undefined)
  await rig.untilDead()
  await rig.restart('mount')
  await rig.reap()
  for (const name of ['d/f', 'second']) expect(existsSync(onDisk(name)), name).toBe(false)
  expect(listed()).toEqual([])
  await expectSettled(rig)
})
