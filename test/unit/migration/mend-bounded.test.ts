import { mkdirSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { MendNotes } from '../../../src/catalog/mend-notes.ts'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { versionsOf } from '../../support/rig/state-copy.ts'

const DIRECTORIES = 300
const PAGE = 64

let drained: DrainedCopy

afterEach(async () => {
  vi.restoreAllMocks()
  await drained.rig.stop()
})

/** What the comparison notes, and the most that it has in memory of that at a time. */
function watchNotes(): { noted: Set<bigint>; most: () => number; read: () => number } {
  const noted = new Set<bigint>()
  let most = 0
  let read = 0
  const { note, some, leaving, aside } = MendNotes.prototype
  const seen = <T>(rows: T[]): T[] => {
    most = Math.max(most, rows.length)
    read += rows.length
    return rows
  }
  vi.spyOn(MendNotes.prototype, 'note').mockImplementation(function (this: MendNotes, ...parameters) {
    noted.add(parameters[0])
    note.apply(this, parameters)
  })
  vi.spyOn(MendNotes.prototype, 'some').mockImplementation(function (this: MendNotes, ...parameters) {
    return seen(some.apply(this, parameters))
  })
  vi.spyOn(MendNotes.prototype, 'leaving').mockImplementation(function (this: MendNotes) {
    return seen(leaving.apply(this))
  })
  vi.spyOn(MendNotes.prototype, 'aside').mockImplementation(function (this: MendNotes, ...parameters) {
    return seen(aside.apply(this, parameters))
  })
  return { noted, most: () => most, read: () => read }
}

test('P6: of directories without a record a comparison has a page in memory, however many there are', async () => {
  drained = await DrainedCopy.start((source) => {
    for (let nth = 0; nth < DIRECTORIES; nth += 1) {
      mkdirSync(join(source, `d${nth}`))
      writeFileSync(join(source, `d${nth}/f`), 'f')
    }
  })
  const { rig, client } = drained
  await drained.copy()
  await drained.drain()
  for (const key of Object.keys(await versionsOf(rig)))
    if (/^dirs [^/]*$/.test(key) && !key.startsWith('dirs 1-')) await drained.loseObject('dirs', key.slice(5))
  const { noted, most, read } = watchNotes()
  await drained.putBack()
  expect(noted.size).toBeGreaterThanOrEqual(DIRECTORIES)
  expect(read()).toBeGreaterThanOrEqual(DIRECTORIES)
  expect(most()).toBeLessThanOrEqual(PAGE)
  expect(await client.readPath('d0/f')).toBe('f')
  const catalog = new DatabaseSync(rig.catalogPath, { readOnly: true })
  expect(catalog.prepare("SELECT name FROM sqlite_master WHERE name LIKE 'mending%'").all()).toEqual([])
  catalog.close()
})
