import { spawnSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ForgetfulDisk, whyNoForgetfulDisk } from '../../support/power/forgetful-disk.ts'

const reason = whyNoForgetfulDisk()
if (reason) console.log(`checkpoints that fail are not tried here: ${reason}`)

const SCRIPT = new URL('../../support/power/checkpointing.ts', import.meta.url).pathname

let root = ''

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-checkpoint-')))
})

afterEach(() => {
  rmSync(root, { recursive: true })
})

describe.skipIf(reason !== undefined)('P2: a checkpoint that met a failed sync', () => {
  test.each([
    ['of the database', 'c.db'],
    ['of its log', 'c.db-wal'],
  ])('%s is done again, and what was acknowledged is there after a power loss', (_, what) => {
    const disk = new ForgetfulDisk(join(root, 'disk'), ['c.db', 'c.db-wal'])
    const path = join(root, 'c.db')
    const { stdout, stderr } = spawnSync(process.execPath, [SCRIPT, path, what, disk.path], {
      env: { ...process.env, ...disk.environment },
      encoding: 'utf8',
    })
    expect(disk.hasFailed, stdout + stderr).toBe(true)
    expect(stdout).toContain('failed')
    const synced = [...stdout.matchAll(/^synced (\d+)$/gm)].map(([, row]) => Number(row))
    expect(synced.length).toBeGreaterThan(50)
    disk.cut()
    const database = new DatabaseSync(path)
    const { n, last } = { ...database.prepare('SELECT count(*) AS n, max(number) AS last FROM rows').get() }
    const [check] = database.prepare('PRAGMA integrity_check').all()
    database.close()
    expect(check).toEqual({ integrity_check: 'ok' })
    expect(n).toBe(last)
    expect(Number(last)).toBeGreaterThanOrEqual(synced.at(-1) ?? 0)
  })
})
