import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Database } from '../../../src/base/database.ts'
import { FsError } from '../../../src/base/errors.ts'
import { FailedSyncs } from '../../../src/base/failed-syncs.ts'

/** Writes rows into a database until its log has been folded in several times; prints the last row of each flush that is done. */
const [path = '', what = '', disk = ''] = process.argv.slice(2)
const ROWS = 6000
const SYNC_EVERY = 100
const FAIL_AT = 500

const failedSyncs = new FailedSyncs((_, error) => console.log('failed', String(error)))
const database = Database.open(path, {
  applicationId: 7,
  format: 1,
  schema: 'CREATE TABLE rows (number INTEGER PRIMARY KEY, value BLOB)',
  failedSyncs,
})
const insert = database.prepare('INSERT INTO rows VALUES (?, zeroblob(16000))')
for (let row = 1; row <= ROWS; row += 1) {
  try {
    database.transaction(() => insert.run(row))
    if (row === FAIL_AT) writeFileSync(join(disk, 'fail'), what)
    // The thread that folds the log in has its turn.
    if (row % SYNC_EVERY === 0) await database.flush()
    if (row % SYNC_EVERY === 0) console.log('synced', row)
  } catch (error) {
    if (!(error instanceof FsError)) throw error
    console.log('refused', error.code)
  }
}
process.kill(process.pid, 'SIGKILL')
