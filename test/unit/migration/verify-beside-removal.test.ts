import { unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(async () => {
  vi.restoreAllMocks()
  await rig.stop()
})

/** A file that is changed in part: the rest of its bytes come from the volume, and the store does not answer. */
async function changedInPart(): Promise<Client> {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => writeFileSync(join(source, 'f'), Buffer.alloc(3_000_000, 'f')),
  })
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  const client = new Client(rig)
  await client.overwrite('f', 0, 'changed')
  return client
}

/** Has this done between the two looks of `verify` at the file. */
function inTheMiddle(act: () => Promise<void> | void): void {
  const { writer } = rig.context
  const check = writer.check.bind(writer)
  vi.spyOn(writer, 'check').mockImplementationOnce(async (ino) => {
    await check(ino)
    await act()
  })
}

test('P4: verify finds nothing amiss in a file that is removed while it is looked at', async () => {
  const client = await changedInPart()
  inTheMiddle(async () => {
    await client.unlink('f')
    unlinkSync(join(rig.source, 'f'))
  })
  expect((await rig.verify()).differences).toEqual([])
})

test('P1: verify finds a file whose other bytes are gone from the volume', async () => {
  await changedInPart()
  inTheMiddle(() => unlinkSync(join(rig.source, 'f')))
  expect((await rig.verify()).differences.map(({ path, kind }) => `${path}: ${kind}`)).toEqual([
    'f: unreadable',
  ])
})
