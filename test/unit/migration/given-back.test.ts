import { existsSync, linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const NAMES = ['d/first', 'second', 'third']
const PAST = 'written past the overlay, and newer'

let rig: Rig
let client: Client
const onDisk = (name: string): boolean => existsSync(join(rig.source, name))

/** A crash between the removal of a file's names from SOURCE; what is left there is changed past the overlay, and so wins. */
beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill(source) {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/first'), 'as it was at first')
      for (const name of ['second', 'third']) linkSync(join(source, 'd/first'), join(source, name))
    },
  })
  client = new Client(rig)
  for (const name of NAMES) await client.node(name)
  const node = await client.node('second')
  await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
  await rig.settle()
  rig.dieAt('migration.reap.removed')
  void rig.reap().catch(() => undefined)
  await rig.untilDead()
  for (const name of NAMES.filter(onDisk)) writeFileSync(join(rig.source, name), PAST)
  await rig.restart('mount')
  client = new Client(rig)
  await rig.reap()
  await rig.migrate()
})

afterEach(() => rig.stop())

test('P1: a file that is given back to the volume has as many links as it has names', async () => {
  for (const name of NAMES)
    expect(await client.lookup(name), name).toMatchObject({ attributes: { nlink: NAMES.length } })
})

test('P2: a name that is removed takes no other with it', async () => {
  const left = [...NAMES]
  for (const name of NAMES) {
    await client.unlink(name)
    left.shift()
    client.forgetAll()
    await rig.settle()
    for (const other of left) expect(await client.readPath(other), `${other} without ${name}`).toBe(PAST)
  }
  expect(NAMES.filter(onDisk)).toEqual([])
  await expectSettled(rig)
})
