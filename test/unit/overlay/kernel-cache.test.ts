import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import type { Mode } from '../../../src/base/modes.ts'
import { Client } from '../../support/rig/client.ts'
import { turns } from '../../support/rig/clock.ts'
import { useDisk } from '../../support/rig/disk.ts'
import { PageCache } from '../../support/rig/page-cache.ts'
import { Rig } from '../../support/rig/rig.ts'
import '../../support/seed.ts'

const LONG_AGO_S = 1_000_000_000
const MODES: readonly Mode[] = ['observe', 'mirror', 'prefer-store']
let rig: Rig

afterEach(() => stop())

async function stop(): Promise<void> {
  useDisk(rig.root, undefined)
  await rig.stop()
}

async function cacheOf(mode: Mode, content: string): Promise<{ kernel: PageCache; path: string }> {
  rig = await Rig.start({ mode, fill: (source) => writeFileSync(join(source, 'f'), content) })
  const path = join(rig.source, 'f')
  utimesSync(path, LONG_AGO_S, LONG_AGO_S)
  return { kernel: new PageCache(rig, await new Client(rig).node('f')), path }
}

function putBackTimes(path: string, change: () => void): void {
  change()
  utimesSync(path, LONG_AGO_S, LONG_AGO_S)
}

describe.each(MODES)('P1: what the kernel caches, %s', (mode) => {
  test('a file that grew or shrank past the overlay is read whole at the first open', async () => {
    const { kernel, path } = await cacheOf(mode, 'a'.repeat(20))
    for (const [n, length] of [9000, 20, 5000, 0, 3].entries()) {
      await kernel.stat()
      await kernel.openAndRead()
      const text = String.fromCharCode(98 + n).repeat(length)
      writeFileSync(path, text)
      expect(await kernel.openAndRead()).toBe(text)
      expect((await kernel.stat()).size).toBe(length)
    }
  })

  test('pages of an open file go when it is changed past the overlay, though size and mtime are put back', async () => {
    const { kernel, path } = await cacheOf(mode, 'old')
    const handle = await kernel.open()
    expect((await kernel.read()).toString()).toBe('old')
    putBackTimes(path, () => writeFileSync(path, 'new'))
    kernel.pass(1001)
    await kernel.stat()
    expect((await kernel.read()).toString()).toBe('new')
    await kernel.close(handle)
  })
})

test('P1: random changes past the overlay: every open reads the file as it is', async () => {
  const step = fc.record({
    length: fc.nat(10_000),
    putBack: fc.boolean(),
    passMs: fc.constantFrom(0, 1, 500, 1001),
    look: fc.boolean(),
  })
  let text = ''
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...MODES),
      fc.array(step, { minLength: 1, maxLength: 8 }),
      async (mode, steps) => {
        const { kernel, path } = await cacheOf(mode, 'first')
        try {
          for (const [n, { length, putBack, passMs, look }] of steps.entries()) {
            text = String.fromCharCode(97 + (n % 26)).repeat(length)
            if (putBack) putBackTimes(path, () => writeFileSync(path, text))
            else writeFileSync(path, text)
            kernel.pass(passMs)
            if (look) await kernel.stat()
            expect(await kernel.openAndRead()).toBe(text)
          }
        } finally {
          await stop()
        }
      },
    ),
    { numRuns: 30 },
  )
})

describe.each(['mirror', 'drain'] as const)('P1: an asynchronous direct write, %s', (mode) => {
  test('is answered when pages and attributes that were read beside it are gone', async () => {
    const { kernel } = await cacheOf(mode, 'old')
    if (mode === 'drain') await kernel.writeDirect(Buffer.from('old'))
    const reader = await kernel.open()
    const waiting: Array<() => void> = []
    const turn = (what: string, perform: () => void): void => {
      if (what.startsWith('write ')) waiting.push(perform)
      else perform()
    }
    useDisk(rig.root, { turn, verdict: () => 'ok' })
    const written = kernel.writeDirect(Buffer.from('new'), false)
    await turns(3)
    await kernel.stat()
    await kernel.fetch(0, false)
    useDisk(rig.root, undefined)
    expect(waiting).toHaveLength(1)
    for (const perform of waiting) perform()
    await written
    expect((await kernel.read()).toString()).toBe('new')
    await kernel.close(reader)
  })

  test('where nobody reads through the page cache, no page is dropped', async () => {
    const { kernel } = await cacheOf(mode, 'old')
    await kernel.writeDirect(Buffer.from('one'))
    let dropped = 0
    const dropPages = kernel.dropPages.bind(kernel)
    kernel.dropPages = (node, offset) => {
      dropped += 1
      return dropPages(node, offset)
    }
    await kernel.writeDirect(Buffer.from('two'))
    await kernel.writeDirect(Buffer.from('tri'))
    expect(dropped).toBe(0)
    expect(await kernel.openAndRead()).toBe('tri')
    await kernel.writeDirect(Buffer.from('for'))
    expect(dropped).toBe(1)
  })
})

test('P1: who has a file open that is given back to the volume reads on to the end of what is there', async () => {
  const { kernel, path } = await cacheOf('drain', 'old')
  const node = await new Client(rig).node('f')
  await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
  const handle = await kernel.open()
  expect((await kernel.stat()).size).toBe(3)
  writeFileSync(path, 'longer than before')
  kernel.isThreadBusy = true
  // This one began when the size was 3; it finds out.
  expect((await kernel.read()).toString()).toBe('lon')
  expect((await kernel.stat()).size).toBe(18)
  await kernel.close(handle)
})
