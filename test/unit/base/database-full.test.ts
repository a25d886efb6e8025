import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Database } from '../../../src/base/database.ts'

let directory = ''
let database: Database

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-database-'))
  database = Database.open(join(directory, 'full.db'), {
    applicationId: 7,
    format: 1,
    schema: 'CREATE TABLE rows (value BLOB)',
  })
})

afterEach(async () => {
  await database.close()
  rmSync(directory, { recursive: true })
})

test('P6: a full disk is ENOSPC with the path, and changes nothing', () => {
  const insert = database.prepare('INSERT INTO rows VALUES (zeroblob(100000))')
  const count = database.prepare('SELECT count(*) AS n FROM rows')
  // What SQLite answers here is what it answers when the disk has no more room.
  database.exec('PRAGMA max_page_count=8')
  expect(() =>
    database.transaction(() => {
      insert.run()
    }),
  ).toThrow(expect.objectContaining({ code: 'ENOSPC', message: expect.stringContaining('full.db is full') }))
  expect(count.get()).toEqual({ n: 0 })
  database.exec('PRAGMA max_page_count=1000')
  database.transaction(() => {
    insert.run()
  })
  expect(count.get()).toEqual({ n: 1 })
})

test('P6: of its pages a database keeps 16 MiB in memory at most, however many it has', () => {
  expect(database.prepare('PRAGMA cache_size').get()).toEqual({ cache_size: -16384 })
})
