import { afterEach, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

test('P6: extended attributes of a file that the catalog has end with ENOSPC, and the file is as it was', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const node = await new Client(rig).create('f', 'content')
  const set = (nth: number, bytes: number) =>
    rig.perform((overlay, request) =>
      overlay.setxattr(request, node, Buffer.from(`user.x${nth}`), Buffer.alloc(bytes, nth), 0),
    )
  await set(0, 65_536)
  await set(1, 50_000)
  await expect(set(2, 60_000)).rejects.toMatchObject({ code: 'ENOSPC' })
  await expect(set(1, 65_536)).rejects.toMatchObject({ code: 'ENOSPC' })
  const names = await rig.perform((overlay, request) => overlay.listxattr(request, node))
  expect(names.map(String)).toEqual(['user.x0', 'user.x1'])
  await set(1, 10)
  await set(2, 50_000)
})
