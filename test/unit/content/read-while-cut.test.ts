import { afterEach, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const MiB = 1024 * 1024
let rig: Rig

afterEach(() => rig.stop())

test('P1: a read during which the file is cut short ends where the file does, not in zeros', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  const content = 'contents'.repeat((3 * MiB) / 8)
  const node = await client.create('f', content)
  await rig.settle()
  let cut: Promise<unknown> | undefined
  rig.world.gate = async (what) => {
    if (!what.startsWith('answer to get')) return
    cut ??= client.truncate(node, MiB)
    await cut
  }
  const read = await rig.perform((overlay, request) => overlay.read(request, node, 0n, 10, 3 * MiB))
  expect(cut).toBeDefined()
  expect(read.toString() === content.slice(10, 10 + read.length)).toBe(true)
})
