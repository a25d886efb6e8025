import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fullDisk, useDisk } from '../../support/rig/disk.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const MiB = 1024 * 1024
const LONG = 'abcdefgh'.repeat(1000)
let rig: Rig
let client: Client

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), LONG)
    },
  })
  client = new Client(rig)
})

afterEach(async () => {
  useDisk(rig.root, undefined)
  freeDisk(rig.catalogPath)
  await rig.stop()
})

const isWhole = (content: string): boolean => content === LONG

/** The staging disk has room for so many more bytes; `once`: somebody makes room as soon as it has said that it is full. */
function room(bytes: number, { once = false } = {}): void {
  let left = bytes
  const fits = (path: string, length: number): number => {
    if (!path.includes('/staging/')) return length
    const taken = Math.min(left, length)
    left -= taken
    if (once && taken === 0) left = Number.POSITIVE_INFINITY
    return taken
  }
  useDisk(rig.root, fullDisk(fits))
}

const full = { code: 'ENOSPC' }

describe('P1: where the staging disk is full, a write fails and the file is what it was', () => {
  test('when only a part of the base chunk that it completes finds room', async () => {
    const node = await client.node('d/f')
    // The new bytes themselves would find room: beside a base chunk that is there only in part.
    room(5000, { once: true })
    await expect(client.write(node, 10, 'new')).rejects.toMatchObject(full)
    expect((await client.read(node)).toString()).toSatisfy(isWhole)
    await client.write(node, 10, 'new')
    expect((await client.read(node)).toString()).toBe(`${LONG.slice(0, 10)}new${LONG.slice(13)}`)
    await expectSettled(rig)
  })

  test('and of a file that the store does not give: nothing is left of it, so the legacy copy goes', async () => {
    const node = await client.node('d/f')
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    await rig.settle()
    rig.world.inject({ fault: 'rejected', on: ['get'] })
    rmSync(join(rig.source, 'd/f'))
    await expect(client.write(node, 10, 'new')).rejects.toMatchObject({ code: 'EIO' })
    rig.world.heal()
    expect(rig.catalog.get(node)).toMatchObject({ staged: 0, dirty: 0 })
    await rig.reap()
    expect(rig.catalog.get(node)?.legacyIno).toBeUndefined()
    await expectSettled(rig)
  })

  test('when only a part of it finds room beyond the end: that part is not there when the file grows', async () => {
    const node = await client.create('new', 'start')
    room(10)
    await expect(client.write(node, 20, LONG)).rejects.toMatchObject(full)
    useDisk(rig.root, undefined)
    await client.write(node, 100, 'end')
    expect((await client.read(node)).toString()).toBe(`start${'\0'.repeat(95)}end`)
    await expectSettled(rig)
  })

  test('when the object that has the only bytes of a file is preserved', async () => {
    const node = await client.create('inline', 'inline')
    await rig.settle()
    await client.truncate(node, 3)
    room(2)
    await client.overwrite('inline', 0, 'I').catch(() => undefined)
    await rig.context.carrier.idle(1)
    useDisk(rig.root, undefined)
    expect(await client.readPath('inline')).toMatch(/^[iI]nl$/)
    await expectSettled(rig)
  })
})

describe('P1: where the catalog has no room, a change fails and the file is what it was', () => {
  test('when a write has reached the staging file', async () => {
    const node = await client.create('new', 'start')
    const path = rig.catalogPath
    atPoint('content.write.staged', () => fillDisk(path))
    await expect(client.write(node, 20, LONG)).rejects.toMatchObject(full)
    await expect(client.write(node, MiB + 20, LONG)).rejects.toMatchObject(full)
    atPoint('content.write.staged', undefined)
    freeDisk(path)
    await client.write(node, 100, 'middle')
    await client.write(node, MiB + 10_000, 'end')
    const wanted = Buffer.alloc(MiB + 10_003)
    wanted.write('start')
    wanted.write('middle', 100)
    wanted.write('end', MiB + 10_000)
    expect((await client.read(node)).equals(wanted)).toBe(true)
    await expectSettled(rig)
  })

  test('when the staging file is to be cut', async () => {
    const node = await client.create('new', LONG)
    for (let writes = 0; writes < 8; writes += 1) {
      fillDisk(rig.catalogPath, writes)
      const error = await client.truncate(node, 10).catch((reason: unknown) => reason)
      freeDisk(rig.catalogPath)
      const done = !(error instanceof Error)
      expect((await client.read(node)).length).toBe(done ? 10 : LONG.length)
      if (done) await client.write(node, 0, LONG)
    }
    await client.truncate(node, 10)
    fillDisk(rig.catalogPath, 4)
    await client.truncate(node, 5).catch(() => undefined)
    freeDisk(rig.catalogPath)
    await client.truncate(node, 20)
    expect((await client.read(node)).subarray(10).every((byte) => byte === 0)).toBe(true)
    await expectSettled(rig)
  })
})
