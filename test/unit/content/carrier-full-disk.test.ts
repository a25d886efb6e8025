import { expect, test } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { Rig } from '../../support/rig/rig.ts'

test('P6: a failure that the catalog has no room for costs a log line, not the worker', async () => {
  const rig = await Rig.start()
  try {
    Object.assign(rig.catalog, {
      transaction: () => {
        throw new FsError('ENOSPC', 'the disk of catalog.db is full')
      },
    })
    expect(() => rig.context.carrier.recordFailure(1n, new Error('the store refused'))).not.toThrow()
    expect(rig.logged).toContainEqual(expect.objectContaining({ msg: 'a failure cannot be recorded' }))
  } finally {
    await rig.stop()
  }
})
