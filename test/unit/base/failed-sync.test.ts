// First: what the product makes of the calls of node:fs when it is loaded goes to the disk of the test, too.
import { ForgetfulDisk } from '../../support/forgetful-disk.ts'
import { copyFileSync, mkdtempSync, openSync, rmSync, statSync, writeSync, closeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { FailedSyncs } from '../../../src/base/failed-syncs.ts'

let directory = ''
let disk: ForgetfulDisk
let failed: FailedSyncs
const broken: unknown[] = []
const opened: Database[] = []

const open = (name = 'a.db'): Database => {
  const database = Database.open(join(directory, name), {
    applicationId: 7,
    format: 1,
    schema: 'CREATE TABLE rows (value TEXT)',
    failedSyncs: failed,
    onBroken: (error) => broken.push(error),
  })
  opened.push(database)
  return database
}

const add = (database: Database, value: string): void =>
  database.transaction(() => {
    database.prepare('INSERT INTO rows VALUES (?)').run(value)
  })

/** The rows that are left when the power goes now. */
function leftByPowerCut(name = 'a.db'): string[] {
  const copy = join(directory, 'copy.db')
  rmSync(`${copy}-shm`, { force: true })
  copyFileSync(join(directory, name), copy)
  disk.powerCut(join(directory, `${name}-wal`), `${copy}-wal`)
  const database = new DatabaseSync(copy)
  const rows = database.prepare('SELECT value FROM rows').all()
  database.close()
  return rows.map(({ value }) => String(value))
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-failed-sync-'))
  disk = new ForgetfulDisk(directory)
  failed = new FailedSyncs(() => undefined)
  broken.length = 0
})

afterEach(async () => {
  for (const database of opened.splice(0)) await database.close()
  disk.remove()
  rmSync(directory, { recursive: true })
})

describe('P2: a sync of a database that failed', () => {
  test('fails those who waited for it, and what a later one acknowledges is on the disk', async () => {
    const database = open()
    add(database, 'before')
    await database.flush()
    add(database, 'A')
    disk.failing.add('-wal')
    const together = [database.flush(), database.flush()]
    for (const flush of together)
      await expect(flush).rejects.toMatchObject({ code: 'EIO', message: expect.stringContaining('a.db') })
    expect(leftByPowerCut()).toEqual(['before'])
    add(database, 'B')
    await database.flush()
    expect(leftByPowerCut()).toEqual(['before', 'A', 'B'])
    for (let count = 0; count < 40; count += 1) add(database, `C${count}`)
    await database.flush()
    expect(leftByPowerCut()).toHaveLength(43)
    expect(failed.list()).toEqual([{ path: database.path, reason: expect.stringContaining('EIO') }])
  })

  test('may fail again and again: nothing is acknowledged until one succeeds', async () => {
    const database = open()
    add(database, 'before')
    await database.flush()
    for (const value of ['A', 'B', 'C']) {
      add(database, value)
      disk.failing.add('-wal')
      await expect(database.flush()).rejects.toMatchObject({ code: 'EIO' })
      expect(leftByPowerCut()).toEqual(['before'])
    }
    await database.flush()
    expect(leftByPowerCut()).toEqual(['before', 'A', 'B', 'C'])
  })

  test('does not let what waits for a flush go', async () => {
    const database = open()
    add(database, 'A')
    disk.failing.add('-wal')
    let done = false
    database.afterFlush(() => {
      done = true
    })
    await expect(database.flush()).rejects.toMatchObject({ code: 'EIO' })
    expect(done).toBe(false)
    await database.flush()
    expect(done).toBe(true)
  })

  test('is not forgotten with the process that met it', async () => {
    const first = open()
    add(first, 'before')
    await first.flush()
    add(first, 'A')
    // The process is killed; what it left dirty does not reach the disk, and nobody is told.
    for (const suffix of ['', '-wal', '-shm'])
      copyFileSync(first.path + suffix, join(directory, `b.db${suffix}`))
    const log = join(directory, 'b.db-wal')
    disk.writeBack(log, false)
    const second = open('b.db')
    add(second, 'B')
    await second.flush()
    expect(leftByPowerCut('b.db')).toEqual(['before', 'A', 'B'])
  })

  test('of which the page cache has nothing left ends all promises, and says so', async () => {
    const database = open()
    add(database, 'before')
    await database.flush()
    add(database, 'A')
    const log = openSync(`${database.path}-wal`, 'r+')
    writeSync(log, Buffer.alloc(100, 7), 0, 100, statSync(`${database.path}-wal`).size - 200)
    closeSync(log)
    disk.failing.add('-wal')
    await expect(database.flush()).rejects.toMatchObject({ code: 'EIO' })
    expect(broken).toHaveLength(1)
    await expect(database.flush()).rejects.toMatchObject({ code: 'EIO' })
    expect(() => add(database, 'B')).toThrow(expect.objectContaining({ code: 'EIO' }))
  })
})
