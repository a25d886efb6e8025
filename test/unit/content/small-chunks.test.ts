import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const FILES = 300
let rig: Rig

afterEach(() => rig.stop())

test('P6: chunks of very many small files in memory are bounded by what they take there, not by their bytes', async () => {
  rig = await Rig.start({
    mode: 'drain',
    memoryCacheLimit: 32 * 1024,
    fill: (source) => {
      for (let nth = 0; nth < FILES; nth += 1) writeFileSync(join(source, `f${nth}`), `${nth}`)
    },
  })
  const client = new Client(rig)
  await rig.migrate()
  await rig.settle()
  const readAll = async (): Promise<void> => {
    for (let nth = 0; nth < FILES; nth += 1) expect(await client.readPath(`f${nth}`)).toBe(`${nth}`)
  }
  await readAll()
  const before = rig.built.counters.cache
  await readAll()
  expect(rig.built.counters.cache - before).toBeLessThan(FILES / 4)
  // What was read last is there.
  expect(await client.readPath(`f${FILES - 1}`)).toBe(`${FILES - 1}`)
  expect(rig.built.counters.cache - before).toBeGreaterThan(0)
})
