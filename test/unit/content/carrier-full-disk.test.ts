import { expect, test, vi } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { Catalog } from '../../../src/catalog/index.ts'
import { Client } from '../../support/rig/client.ts'
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

test('P6: a worker that follows one that was killed comes up on a full disk and serves what is there', async () => {
  const rig = await Rig.start({ mode: 'drain' })
  try {
    await new Client(rig).create('f', 'content')
    const full = vi.spyOn(Catalog.prototype, 'transaction').mockImplementation(() => {
      throw new FsError('ENOSPC', 'the disk of catalog.db is full')
    })
    await rig.restart('worker')
    expect(await new Client(rig).readPath('f')).toBe('content')
    full.mockRestore()
    await new Client(rig).create('g', 'more')
  } finally {
    vi.restoreAllMocks()
    await rig.stop()
  }
})
