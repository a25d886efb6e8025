// First: what the product makes of the calls of node:fs when it is loaded goes to the disk of the test, too.
import { ForgetfulDisk } from '../../support/forgetful-disk.ts'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'

let rig: Rig
let client: Client
let disk: ForgetfulDisk

async function start(options: RigOptions): Promise<void> {
  rig = await Rig.start({ ...options, fill: (source) => writeFileSync(join(source, 'old'), 'on the volume') })
  client = new Client(rig)
  disk = new ForgetfulDisk(rig.root)
}

afterEach(async () => {
  disk.remove()
  await rig.stop()
})

const sync = (node: bigint, handle = 0n): Promise<void> =>
  rig.perform((overlay, request) => overlay.fsync(request, node, handle, false))

/** What the disk has of the one staging file. */
function stagedOnDisk(): string {
  const [name = ''] = readdirSync(join(rig.stateDir, 'staging'))
  const path = join(rig.stateDir, 'staging', name)
  const copy = join(rig.root, 'copy')
  disk.powerCut(path, copy)
  return readFileSync(copy, 'latin1')
}

const EIO = { code: 'EIO' }

describe('P2: a sync of a staging file that failed', () => {
  test('is EIO once, and the next that succeeds has brought all of it to the disk', async () => {
    await start({ mode: 'drain' })
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.create('f', 'first'.repeat(3000))
    await sync(node)
    expect(stagedOnDisk()).toBe('first'.repeat(3000))
    await client.write(node, 0, 'other'.repeat(3000))
    disk.failing.add(`staging/${readdirSync(join(rig.stateDir, 'staging'))[0]}`)
    const together = await Promise.allSettled([sync(node), sync(node)])
    expect(together.every(({ status }) => status === 'rejected')).toBe(true)
    expect(rig.context.failedSyncs.list()).toEqual([
      { path: 'f', reason: expect.stringContaining('staging') },
    ])
    await sync(node)
    expect(stagedOnDisk()).toBe('other'.repeat(3000))
  })

  test('is not forgotten with the worker that met it', async () => {
    await start({ mode: 'drain' })
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.create('f', 'first'.repeat(3000))
    disk.failing.add(`staging/${readdirSync(join(rig.stateDir, 'staging'))[0]}`)
    await expect(sync(node)).rejects.toMatchObject(EIO)
    await rig.restart('worker')
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    await sync(node)
    expect(stagedOnDisk()).toBe('first'.repeat(3000))
  })
})

describe('P2: a sync of a legacy file that failed', () => {
  test('is told once to each who has the file open, as on a local file system', async () => {
    await start({ mode: 'mirror' })
    const node = await client.node('old')
    const [one, other] = [await client.open(node), await client.open(node)]
    await client.write(node, 0, 'IN')
    disk.failing.add('source/old')
    await expect(sync(node, one)).rejects.toMatchObject(EIO)
    expect(rig.context.failedSyncs.list()).toEqual([
      { path: 'old', reason: expect.stringContaining('synced') },
    ])
    const late = await client.open(node)
    await expect(sync(node, other)).rejects.toMatchObject(EIO)
    for (const handle of [one, other, late]) await sync(node, handle)
    for (const handle of [one, other, late]) await client.close(node, handle)
  })

  test('reaches whoever syncs it at the same time', async () => {
    await start({ mode: 'mirror' })
    const node = await client.node('old')
    const handles = [await client.open(node), await client.open(node), await client.open(node)]
    disk.failing.add('source/old')
    const together = await Promise.allSettled(handles.map((handle) => sync(node, handle)))
    expect(together.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  })

  test('what was written to the volume is synced there also when the catalog has taken the file over', async () => {
    await start({ mode: 'mirror' })
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    const node = await client.node('old')
    await client.write(node, 0, 'IN')
    await rig.setMode('drain')
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    expect(rig.catalog.get(node)).toMatchObject({ authority: 'catalog', base: 'legacy' })
    await sync(node)
    expect(disk.synced).toContain(join(rig.source, 'old'))
  })
})
