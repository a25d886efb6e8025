import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const FILES = 16
// Turns are told apart by setImmediate, which the next one may come before.
const FEW = 4
const names = Array.from({ length: FILES }, (_, index) => `f${index}`)

let rig: Rig
let nodes: bigint[]
/** Milliseconds by which the clock is ahead. It never goes back. */
let spent = 0

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      for (const name of names) writeFileSync(join(source, name), name)
    },
  })
  const client = new Client(rig)
  nodes = []
  for (const name of names) nodes.push(await client.node(name))
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rig.stop()
})

/** From now on each step takes as long as a whole turn of the event loop may; before, none takes any time. */
function stoppedClock(): { slow: () => void } {
  const now = performance.now.bind(performance)
  const stoppedAt = now() + spent
  let isSlow = false
  vi.spyOn(performance, 'now').mockImplementation(() => {
    if (isSlow) spent += 11
    return stoppedAt + spent
  })
  return {
    slow: () => {
      isSlow = true
    },
  }
}

/** The most files of which the volume is asked for writers in one turn of the event loop. */
function mostAskedAtOnce(): () => number {
  const { legacyFiles } = rig.context
  const underLease = legacyFiles.underLease.bind(legacyFiles)
  const asked = new Set<bigint>()
  let most = 0
  vi.spyOn(legacyFiles, 'underLease').mockImplementation((ino, act) => {
    if (asked.size === 0) setImmediate(() => asked.clear())
    most = Math.max(most, asked.add(ino).size)
    return underLease(ino, act)
  })
  return () => most
}

test('P6: legacy copies that have waited for the same flush do not all go in one turn of the event loop', async () => {
  for (const node of nodes)
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
  await rig.settle()
  expect(readdirSync(rig.source)).toHaveLength(FILES)
  const { slow } = stoppedClock()
  const all = Promise.withResolvers<void>()
  let waiting = 0
  let most = (): number => 0
  const flush = rig.catalog.flush.bind(rig.catalog)
  vi.spyOn(rig.catalog, 'flush').mockImplementation(async () => {
    waiting += 1
    if (waiting === FILES) {
      await flush()
      most = mostAskedAtOnce()
      slow()
      all.resolve()
    }
    await all.promise
  })
  await rig.reap()
  expect(readdirSync(rig.source)).toEqual([])
  expect(most()).toBeLessThan(FEW)
})
