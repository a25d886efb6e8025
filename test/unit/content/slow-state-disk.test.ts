import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { useDisk } from '../../support/rig/disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// What is in the page cache needs no disk.
vi.mock(import('../../../src/sys/cached-read.ts'), () => ({ readCached: () => ({ count: 0, isAll: false }) }))

const LONG = 'l'.repeat(500)
// Far more turns than anything takes that does not wait for what is held up.
const MANY_TURNS = 500

let rig: Rig
let client: Client
let held: Array<() => void>
let slow: string | undefined

/** A disk of the state directory that takes its time for one kind of request. */
beforeEach(async () => {
  rig = await Rig.start({ mode: 'drain' })
  client = new Client(rig)
  held = []
  slow = undefined
  useDisk(rig.stateDir, {
    turn: (what, perform) => {
      if (slow !== undefined && what.startsWith(`${slow} ${rig.stateDir}/staging/`)) held.push(perform)
      else setImmediate(perform)
    },
    verdict: () => 'ok',
  })
})

afterEach(async () => {
  goOn()
  useDisk(rig.stateDir, undefined)
  await rig.stop()
})

function goOn(): void {
  slow = undefined
  for (const perform of held.splice(0)) perform()
}

const staged = (): string[] => readdirSync(join(rig.stateDir, 'staging'))

test('P6: staging files that are given up go one after the other, and nobody waits for it', async () => {
  slow = 'unlink'
  for (let index = 0; index < 5; index += 1) await client.create(`f${index}`, LONG)
  expect(staged()).toHaveLength(5)
  await rig.settle()
  await clock.until(rig.catalog.flush())
  await turns(MANY_TURNS)
  expect([held.length, staged().length]).toEqual([1, 5])
  expect(await client.readPath('f4')).toBe(LONG)
  expect(rig.context.staging.bytes).toBe(0)
  goOn()
  await expect.poll(staged).toEqual([])
  await expectSettled(rig)
})

test('P6: a staging file that is cut is short at once, keeps no other file waiting, and is written to only once that is done', async () => {
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  const node = await client.create('f', LONG)
  const other = await client.create('g', LONG)
  slow = 'cut'
  const cut = client.truncate(node, 100)
  await clock.untilTrue(() => held.length === 1)
  const written = client.write(node, 200, 'behind')
  await client.write(other, 0, 'OTHER')
  await turns(MANY_TURNS)
  expect((await client.read(other)).toString()).toBe(`OTHER${LONG.slice(5)}`)
  expect((await client.read(node)).toString()).toBe(LONG.slice(0, 100))
  goOn()
  await cut
  await written
  expect((await client.read(node)).toString()).toBe(`${LONG.slice(0, 100)}${'\0'.repeat(100)}behind`)
  rig.world.heal()
  await expectSettled(rig)
})

const MANY = 20

test.each([
  ['read', (node: bigint) => client.read(node)],
  ['write', (node: bigint) => client.write(node, 0, 'CHANGED')],
  ['sync', (node: bigint) => rig.context.writer.sync(node)],
] as const)('P6: a disk that hangs keeps few threads of the pool: %s', async (what, act) => {
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  const nodes: bigint[] = []
  for (let index = 0; index < MANY; index += 1) nodes.push(await client.create(`f${index}`, LONG))
  slow = what
  const acts = nodes.map((node): Promise<unknown> => act(node))
  await clock.untilTrue(() => held.length > 0)
  await turns(MANY_TURNS)
  expect(held.length).toBeLessThan(MANY / 2)
  goOn()
  await clock.until(Promise.all(acts))
  rig.world.heal()
  await expectSettled(rig)
})
