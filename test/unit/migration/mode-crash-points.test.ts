import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LONG = 'l'.repeat(500)
let rig: Rig
let client: Client

afterEach(() => rig.stop())

async function start(mode: 'mirror' | 'drain'): Promise<void> {
  rig = await Rig.start({
    mode,
    fill: (source) => {
      writeFileSync(join(source, 'a'), LONG)
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/b'), 'beta')
      symlinkSync('d/b', join(source, 's'))
    },
  })
  client = new Client(rig)
  await rig.migrate()
  await rig.settle()
}

describe.each(['worker', 'mount'] as const)('a switch to store-only, cut short, then the next %s', (next) => {
  test.each([
    ['mirror', 'migration.mode.set'],
    ['mirror', 'migration.mode.leaving'],
    ['drain', 'migration.mode.set'],
    ['drain', 'migration.mode.leaving'],
  ] as const)('P5: from %s at %s is decided, and goes on to its end', async (mode, point) => {
    await start(mode)
    rig.dieAt(point)
    rig.setMode('store-only').catch(() => undefined)
    await rig.untilDead()
    await rig.restart(next)
    // The mode says what holds: the volume is not kept up to date any more.
    expect(rig.modes.mode).toBe('store-only')
    expect(rig.modes.policy.writeTo).toBe('store')
    expect(await client.readPath('a')).toBe(LONG)
    await client.overwrite('d/b', 0, 'gamma')
    await client.unlink('s')
    await rig.setMode('store-only')
    expect(rig.modes.leaving).toBe(false)
    expect(rig.context.legacy()).toBeUndefined()
    expect(await client.readPath('a')).toBe(LONG)
    expect(await client.readPath('d/b')).toBe('gamma')
    client.forgetAll()
    await expectSettled(rig)
  })
})

test('P5: a switch to store-only that the store does not let happen leaves a mirror that is one', async () => {
  await start('mirror')
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  // Owed to the store: a directory record; every file is there.
  await client.mkdir('new')
  await expect(rig.setMode('store-only')).rejects.toThrow(/refused/)
  expect(rig.modes.mode).toBe('mirror')
  await client.overwrite('a', 0, 'changed')
  expect(readFileSync(join(rig.source, 'a'), 'utf8')).toBe(`changed${LONG.slice(7)}`)
  await expectSettled(rig)
})
