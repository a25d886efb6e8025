import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

let rig: Rig

afterEach(async () => {
  freeDisk(rig.catalogPath)
  await rig.stop()
})

async function start(): Promise<Client> {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      writeFileSync(join(source, 'a'), 'alpha')
      writeFileSync(join(source, 'b'), 'beta')
      mkdirSync(join(source, 'd'))
    },
  })
  await rig.migrate()
  return new Client(rig)
}

/** The catalog has no more room from the fault point on. */
async function fullAt(point: string, body: () => Promise<unknown>): Promise<unknown> {
  atPoint(point, () => fillDisk(rig.catalogPath))
  try {
    return await body().catch((error: unknown) => error)
  } finally {
    atPoint(point, undefined)
    freeDisk(rig.catalogPath)
  }
}

const full = { code: 'ENOSPC' }

describe('P2 P6: where the catalog has no room to follow the volume', () => {
  test('what was made there is taken back', async () => {
    const client = await start()
    expect(await fullAt('overlay.create.effect', () => client.create('new'))).toMatchObject(full)
    expect(await fullAt('overlay.create.effect', () => client.mkdir('sub'))).toMatchObject(full)
    const node = await client.node('a')
    const linked = (): Promise<unknown> =>
      rig.perform((overlay, request) => overlay.link(request, node, 1n, Buffer.from('l')))
    expect(await fullAt('overlay.link.effect', linked)).toMatchObject(full)
    expect(readdirSync(rig.source).sort()).toEqual(['a', 'b', 'd'])
    await client.create('new', 'new')
    await linked()
    expect(await client.readPath('l')).toBe('alpha')
    await expectSettled(rig)
  })

  test('what was removed or moved there is done, and the catalog follows before the next change', async () => {
    const client = await start()
    expect(await fullAt('overlay.unlink.effect', () => client.unlink('b'))).toBeUndefined()
    expect(await client.exists('b')).toBe(false)
    const rmdir = (): Promise<unknown> =>
      rig.perform((overlay, request) => overlay.rmdir(request, 1n, Buffer.from('d')))
    expect(await fullAt('overlay.rmdir.effect', rmdir)).toBeUndefined()
    expect(await client.exists('d')).toBe(false)
    expect(await fullAt('overlay.rename.effect', () => client.rename('a', 'moved'))).toBeUndefined()
    await client.create('a', 'another')
    expect(await client.readPath('moved')).toBe('alpha')
    expect(await client.readPath('a')).toBe('another')
    await expectSettled(rig)
  })

  test('what was moved there is not taken for removed by an upload that comes next', async () => {
    const client = await start()
    const node = await client.node('a')
    await client.overwrite('a', 0, 'ALPHA')
    await fullAt('overlay.rename.effect', () => client.rename('a', 'moved'))
    await rig.settle()
    expect(await client.node('moved')).toBe(node)
    client.forgetAll()
    expect(await client.readPath('moved')).toBe('ALPHA')
    await expectSettled(rig)
  })

  test('an intent that was left does not undo later changes at the next start', async () => {
    const client = await start()
    await fullAt('overlay.rename.effect', () => client.rename('a', 'moved'))
    await client.create('a', 'another')
    await rig.migrate()
    await rig.setMode('drain')
    await client.overwrite('a', 0, 'ANOTHER')
    await rig.restart('worker')
    expect(await client.readPath('a')).toBe('ANOTHER')
    expect(existsSync(join(rig.source, 'moved'))).toBe(true)
    await expectSettled(rig)
  })
})
