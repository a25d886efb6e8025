import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

// Such a copy is in no list of the catalog: once it had failed it waited for the next reader, and the file was listed as failed.
test.each([
  { what: 'the volume fails', error: new FsError('EIO', 'statx f: ENOTCONN') },
  { what: 'the store is away', error: new StoreUnavailable('put files "f": no node answers') },
])('P4: a file that was read while $what is copied later without being read again', async ({ error }) => {
  rig = await Rig.start({ mode: 'mirror', fill: (source) => writeFileSync(join(source, 'f'), 'content') })
  const upload = vi.spyOn(rig.context.uploader, 'upload').mockRejectedValueOnce(error)
  expect(await new Client(rig).readPath('f')).toBe('content')
  await clock.untilTrue(() => upload.mock.calls.length > 1 && rig.catalog.lists.unstoredCount() === 0)
  expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
})
