import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { walk } from '../../../src/migration/walker.ts'
import { Rig } from '../../support/rig/rig.ts'

test('P4: a directory that an application removes before its turn is nothing that could not be read', async () => {
  const rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      writeFileSync(join(source, 'file'), 'x')
      for (const name of ['a', 'b', 'c']) mkdirSync(join(source, name))
    },
  })
  try {
    const errors: unknown[] = []
    let files = 0
    for await (const batch of walk(rig.context, rig.overlay, (path, error) =>
      errors.push([path.toString(), error]),
    )) {
      files += batch.length
      for (const name of ['a', 'b', 'c'])
        await rig.perform(async (overlay, request) => overlay.rmdir(request, 1n, Buffer.from(name)))
    }
    expect({ files, errors }).toEqual({ files: 1, errors: [] })
  } finally {
    await rig.stop()
  }
})
