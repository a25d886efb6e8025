import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { StoreTimeout } from '../../../src/store/errors.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

// The reader that came when the store was back shared the request of one that had come in the outage, and its end.
test('P6: a reader that joins a request which then runs out of time asks anew', async () => {
  rig = await Rig.start({ mode: 'store-only', fill: (source) => writeFileSync(join(source, 'f'), 'content') })
  const client = new Client(rig)
  const node = await client.node('f')
  const { promise: held, reject } = Promise.withResolvers<never>()
  const get = vi.spyOn(rig.context.store, 'get').mockImplementationOnce(() => held)
  const first = client.read(node).catch((error: unknown) => error)
  await clock.untilTrue(() => get.mock.calls.length === 1)
  const second = client.read(node)
  await clock.untilTrue(() => true)
  reject(new StoreTimeout('get files "f": no answer'))
  expect((await second).toString()).toBe('content')
  expect(await first).toMatchObject({ code: 'EIO' })
})
