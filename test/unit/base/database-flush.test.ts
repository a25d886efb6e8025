import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database, DatabaseDamaged } from '../../../src/base/database.ts'

let directory = ''
const opened: Database[] = []

const open = (
  options: { format?: number; schema?: string; upgrades?: Record<number, string> } = {},
  name = 'test.db',
) => {
  const database = Database.open(join(directory, name), {
    applicationId: 7,
    format: 1,
    schema: 'CREATE TABLE rows (value INTEGER)',
    ...options,
  })
  opened.push(database)
  return database
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-database-'))
})

afterEach(async () => {
  for (const database of opened.splice(0)) await database.close()
  rmSync(directory, { recursive: true })
})

describe('P2: what waits for a flush', () => {
  const commit = (database: Database): void =>
    database.transaction(() => database.exec('INSERT INTO rows VALUES (1)'))

  test('is done once the commit before it is flushed, not earlier', async () => {
    const database = open()
    commit(database)
    const done: string[] = []
    database.afterFlush(() => done.push('first'))
    expect(done).toEqual([])
    await database.flush()
    expect(done).toEqual(['first'])
    database.afterFlush(() => done.push('second'))
    expect(done).toEqual(['first', 'second'])
  })

  test('is done by itself when nobody asks for a flush', async () => {
    const database = open()
    commit(database)
    await new Promise<void>((resolve) => database.afterFlush(resolve))
    expect(database.isFlushed(database.lastCommit)).toBe(true)
  })

  test('waits for what a process that was killed had committed', () => {
    commit(open())
    for (const suffix of ['', '-wal', '-shm', '-witness', '-sums'])
      copyFileSync(join(directory, `test.db${suffix}`), join(directory, `killed.db${suffix}`))
    const database = open({}, 'killed.db')
    expect(database.isFlushed(database.lastCommit)).toBe(false)
  })
})

describe('a file of an earlier format', () => {
  test('is brought to this one, whole', async () => {
    const first = open()
    first.exec('INSERT INTO rows VALUES (5)')
    await first.close()
    const upgrades = {
      2: 'ALTER TABLE rows ADD COLUMN other INTEGER',
      3: 'UPDATE rows SET other = value + 1',
    }
    const second = open({ format: 3, upgrades })
    expect(second.prepare('SELECT value, other FROM rows').get()).toEqual({ value: 5, other: 6 })
    await second.close()
    expect(() => open()).toThrow(DatabaseDamaged)
    expect(open({ format: 3, upgrades }).prepare('SELECT count(*) AS n FROM rows').get()).toEqual({ n: 1 })
  })

  test('is refused where nothing leads on from it', async () => {
    await open().close()
    expect(() => open({ format: 3, upgrades: { 3: 'SELECT 1' } })).toThrow('its format is 1')
  })
})
