import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import type { DirectorySink } from '../../../src/fuse/operations.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

// overlayfs reads a directory once to learn whether names have a type, and refuses the mount if it saw none.
test('P1: the first part of a listing has more than the dots, however slow the machine', async () => {
  rig = await Rig.start({ fill: (source) => writeFileSync(join(source, 'file'), 'content') })
  const { handle } = await rig.perform((overlay, request) => overlay.opendir(request, ROOT_INO))
  const names: string[] = []
  const sink: DirectorySink = {
    plus: false,
    hasRoom: () => true,
    add: ({ name }) => void names.push(name.toString()),
    clear: () => names.splice(0),
  }
  let now = performance.now()
  const slow = vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 20
    return now
  })
  try {
    await rig.perform((overlay, request) => overlay.readdir(request, ROOT_INO, handle, 0n, sink))
  } finally {
    slow.mockRestore()
  }
  expect(names).toEqual(['.', '..', 'file'])
})
