import { expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { useDisk } from '../../support/rig/disk.ts'
import { Rig } from '../../support/rig/rig.ts'

test('P6: a close that waits for the store lets a write to the same file come to its end', async () => {
  const rig = await Rig.start({ mode: 'drain', ack: 'store' })
  try {
    const client = new Client(rig)
    const node = await client.create('f', 'first')
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    await client.write(node, 0, 'dirty')
    const held: Array<() => void> = []
    useDisk(rig.root, { turn: (_, perform) => held.push(perform), verdict: () => 'ok' })
    const writing = client.write(node, 0, 'second')
    await turns(2)
    const closing = rig.perform((overlay, request) => overlay.flush(request, node), {}, undefined, false)
    // It asked for the upload again and again in one turn of the event loop, which the write's end never got.
    await turns(20)
    useDisk(rig.root, undefined)
    for (const perform of held) perform()
    rig.world.heal()
    await writing
    await rig.settle()
    await clock.until(closing)
    expect((await client.read(node)).toString()).toBe('second')
  } finally {
    useDisk(rig.root, undefined)
    await rig.stop()
  }
})

test('P6: in observe, which copies nothing, a close does not wait for the store', async () => {
  const rig = await Rig.start({ mode: 'observe', ack: 'store' })
  try {
    const client = new Client(rig)
    const node = await client.create('f', 'first')
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    await client.write(node, 0, 'other')
    await rig.perform((overlay, request) => overlay.flush(request, node))
    expect((await client.read(node)).toString()).toBe('other')
  } finally {
    await rig.stop()
  }
})
