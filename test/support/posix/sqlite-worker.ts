// Writes to an SQLite database as one of several processes: node sqlite-worker.ts DATABASE WRITER TRANSACTIONS ROWS
import { createHash } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'

const [path = '', writer = '', transactions = '0', rows = '0'] = process.argv.slice(2)
const database = new DatabaseSync(path)
// Another writer's commit takes as long as its syncs do; the limit only keeps a dead lock from lasting for ever.
database.exec('PRAGMA busy_timeout = 60000')
const insert = database.prepare('INSERT INTO entries (writer, number, payload, sha256) VALUES (?, ?, ?, ?)')
const update = database.prepare('UPDATE totals SET rows = rows + ? WHERE id = 1')
for (let transaction = 0; transaction < Number(transactions); transaction++) {
  database.exec('BEGIN IMMEDIATE')
  for (let row = 0; row < Number(rows); row++) {
    const number = transaction * Number(rows) + row
    const payload = `${writer} ${number} `.repeat(1 + ((number * 13) % 120))
    insert.run(writer, number, payload, createHash('sha256').update(payload).digest('hex'))
  }
  update.run(Number(rows))
  database.exec(transaction % 10 === 9 ? 'ROLLBACK' : 'COMMIT')
}
database.close()
