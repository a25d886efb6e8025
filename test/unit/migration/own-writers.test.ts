import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isStored } from '../../../src/catalog/totals.ts'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { useDisk } from '../../support/rig/disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LONG = 'l'.repeat(500)
// Far more turns than anything takes that does not wait for what is held up.
const MANY_TURNS = 500

let rig: Rig
let client: Client
let node: bigint
let closing: Array<() => void>
let isSlow: boolean
const left = (): boolean => existsSync(join(rig.source, 'f'))

/** A file that an application has just written through the mount, on a volume on which a close takes as long as the test wants. */
beforeEach(async () => {
  rig = await Rig.start({ mode: 'mirror', fill: (source) => writeFileSync(join(source, 'f'), LONG) })
  client = new Client(rig)
  node = await client.node('f')
  closing = []
  isSlow = true
  useDisk(rig.source, {
    turn: (what, perform) => {
      if (isSlow && what.startsWith('close ')) closing.push(perform)
      else setImmediate(perform)
    },
    verdict: () => 'ok',
  })
  await client.write(node, 0, 'changed')
})

afterEach(async () => {
  closed()
  useDisk(rig.source, undefined)
  await rig.stop()
})

function closed(): void {
  isSlow = false
  for (const close of closing.splice(0)) close()
}

test('P6: closing what was written takes no turn of the event loop, and the copy waits for it', async () => {
  await clock.untilTrue(() => closing.length === 1)
  await turns(MANY_TURNS)
  expect((await client.read(node)).toString()).toBe(`changed${LONG.slice(7)}`)
  expect(rig.catalog.get(node)).toSatisfy((inode) => !isStored(inode))
  closed()
  await rig.settle()
  expect(rig.catalog.get(node)).toSatisfy(isStored)
  await expectSettled(rig)
})

describe('a legacy copy that is to go', () => {
  /** It is in the store, the catalog has the authority, and this process still has it open for writing. */
  beforeEach(async () => {
    closed()
    await rig.settle()
    await rig.setMode('drain')
    await client.write(node, 0, 'CHANGED')
    await rig.settle()
    rig.context.legacyFiles.withWriter(node, () => undefined)
    isSlow = true
  })

  /** A sweep that has got as far as to close our own writer. One before may have had a reason to leave the file for now. */
  async function sweep(): Promise<{ ended: Promise<void> }> {
    for (;;) {
      let isOver = false
      const ended = rig.reap().finally(() => {
        isOver = true
      })
      await clock.untilTrue(() => isOver || closing.length === 1)
      if (closing.length === 1) return { ended }
    }
  }

  test('P3: waits until our own writer is closed, and is no stranger’s', async () => {
    const { ended } = await sweep()
    await turns(MANY_TURNS)
    expect(left()).toBe(true)
    closed()
    await ended
    expect(left()).toBe(false)
    expect(rig.catalog.lists.totals().failed).toBe(0)
    await expectSettled(rig)
  })

  test('P3: stays where somebody opens it for writing meanwhile, and goes once that has ended', async () => {
    const { ended } = await sweep()
    const stranger = openSync(join(rig.source, 'f'), 'r+')
    try {
      closed()
      await ended
      expect(left()).toBe(true)
      expect(rig.catalog.get(node)?.failure).toContain('in use')
    } finally {
      closeSync(stranger)
    }
    await rig.reap()
    expect(left()).toBe(false)
    await expectSettled(rig)
  })

  test('P4: is no failure where an application opens it through the mount meanwhile', async () => {
    const { ended } = await sweep()
    rig.context.legacyFiles.withWriter(node, () => undefined)
    closed()
    await ended
    expect(left()).toBe(true)
    expect(rig.catalog.lists.totals().failed).toBe(0)
    await rig.reap()
    expect(left()).toBe(false)
    await expectSettled(rig)
  })
})
