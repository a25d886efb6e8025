import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { ReadCounters } from '../../../src/content/index.ts'
import { Patience } from '../../../src/content/patience.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

const NAMES = Array.from({ length: 20 }, (_, nth) => `f${nth}`)

describe('P6: a slow store, where the volume has the bytes too', () => {
  let rig: Rig
  let client: Client

  afterEach(() => rig.stop())

  async function start(): Promise<void> {
    rig = await Rig.start({
      mode: 'prefer-store',
      fill: (source) => {
        for (const name of NAMES) writeFileSync(join(source, name), name)
      },
    })
    await rig.migrate()
    client = new Client(rig)
  }

  const counters = (): ReadCounters => rig.counters

  test('is not waited for: the volume answers after 250 ms at most, the request is called off, and it is counted', async () => {
    await start()
    const node = await client.node('f1')
    rig.world.inject({ fault: 'hang', on: ['get'] })
    expect((await client.read(node)).toString()).toBe('f1')
    expect(counters()).toMatchObject({ legacy: 1, overtaken: 1 })
    // Nobody holds on to what hangs: the next one asks the store anew.
    rig.world.heal()
    expect((await client.read(node)).toString()).toBe('f1')
    expect(counters()).toMatchObject({ legacy: 1, overtaken: 1 })
  })

  test('what was written while the store was waited for is what the next reader gets', async () => {
    await start()
    const node = await client.node('f1')
    rig.world.inject({ fault: 'hang', on: ['get'] })
    const slow = client.read(node)
    await client.write(node, 0, 'F1')
    expect((await client.read(node)).toString()).toBe('F1')
    expect(['f1', 'F1']).toContain((await slow).toString())
  })

  test('a file that the catalog took over meanwhile is not read from the volume, which has it as it was', async () => {
    await start()
    const node = await client.node('f1')
    rig.world.inject({ fault: 'hang', on: ['get'], times: 1 })
    const slow = client.read(node)
    await clock.untilTrue(() => rig.world.hanging === 1)
    await rig.setMode('drain')
    await client.overwrite('f1', 0, 'F1')
    expect(readFileSync(join(rig.source, 'f1'), 'utf8')).toBe('f1')
    const bytes = (await slow).toString()
    expect(['f1', 'F1']).toContain(bytes)
    expect((await client.read(node)).toString()).toBe('F1')
  })

  test('a volume that fails as well leaves the store to answer, however long it takes', async () => {
    await start()
    const node = await client.node('f1')
    rig.world.inject({ fault: 'hang', on: ['get'], times: 1 })
    const slow = client.read(node)
    await clock.untilTrue(() => rig.world.hanging === 1)
    chmodSync(join(rig.source, 'f1'), 0o600)
    rmSync(join(rig.source, 'f1'))
    rig.world.release()
    expect((await slow).toString()).toBe('f1')
  })
})

describe('P6: how long a read waits for the store', () => {
  test('is twice the usual time, and never more than 250 ms', () => {
    const patience = new Patience()
    expect(patience.milliseconds).toBe(250)
    for (let nth = 0; nth < 100; nth += 1) patience.answered(nth % 2 === 0 ? 5 : 10)
    expect(patience.milliseconds).toBe(20)
    for (let nth = 0; nth < 200; nth += 1) patience.answered(1_000)
    expect(patience.milliseconds).toBe(250)
  })

  test('stays as it is while one node of three hangs, and grows with a store that has become slow as a whole', () => {
    const patience = new Patience()
    for (let nth = 0; nth < 300; nth += 1) nth % 3 === 0 ? patience.spent() : patience.answered(4)
    expect(patience.milliseconds).toBe(8)
    for (let nth = 0; nth < 1000; nth += 1) patience.spent()
    expect(patience.milliseconds).toBe(250)
  })
})
