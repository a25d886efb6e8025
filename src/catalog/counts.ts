import { S_IFDIR, S_IFMT } from '../base/attributes.ts'

// Sums that are asked for again and again, over rows of which there may be any number: SQLite keeps them itself, with each row
// that comes, changes or goes, in its transaction. So they cost nothing to read, hold after a crash, and roll back with the rest.

type Side = 'new' | 'old'
type Operation = 'INSERT' | 'UPDATE' | 'DELETE'

/** What one row of `inodes` adds to each sum; the same as `shareOf` in totals.ts, and what only a mode change asks for. */
const SHARES: Readonly<Record<string, (side: Side) => string>> = (() => {
  const counts = (row: Side): string =>
    `(${row}.mode & ${S_IFMT}) <> ${S_IFDIR} AND ${row}.orphan = 0 AND ${row}.nlink > 0`
  const stored = (row: Side): string => `${counts(row)} AND ${row}.version > 0 AND ${row}.dirty = 0`
  return {
    files: counts,
    bytes: (row) => `(${counts(row)}) * ${row}.size`,
    stored,
    stored_bytes: (row) => `(${stored(row)}) * ${row}.size`,
    dirty: (row) => `${counts(row)} AND ${row}.dirty <> 0`,
    failed: (row) => `${counts(row)} AND ${row}.failure IS NOT NULL`,
    drained: (row) => `${stored(row)} AND ${row}.authority = 1 AND ${row}.legacy_ino IS NULL`,
    own: (row) => `${row}.authority = 1`,
    on_volume: (row) =>
      `(${row}.authority = 0 AND ${row}.orphan = 0 AND ${row}.nlink > 0) OR (${row}.authority = 1 AND ${row}.base = 1)`,
  }
})()
const SUMS = Object.keys(SHARES)

/** What a row is summed up by: most changes of a row change none of it. */
const decisive = (row: Side): string =>
  `(${row}.size, ${row}.nlink, ${row}.orphan, ${row}.dirty, ${row}.version > 0, ${row}.failure IS NULL,
    ${row}.authority, ${row}.legacy_ino IS NULL, ${row}.base)`

const has = {
  INSERT: { new: true, old: false },
  UPDATE: { new: true, old: true },
  DELETE: { new: false, old: true },
}

/** Keeps the sums over a table that has the columns of `inodes`; `temp.` tables have sums of their own. */
function summing(table: string, sums: string, schema = ''): string {
  const change = (name: string, operation: Operation): string => {
    const share = SHARES[name] ?? (() => '0')
    const sides = has[operation]
    return `${name} = ${name}${sides.new ? ` + (${share('new')})` : ''}${sides.old ? ` - (${share('old')})` : ''}`
  }
  const triggers = (['INSERT', 'UPDATE', 'DELETE'] as const).map((operation) => {
    const when = operation === 'UPDATE' ? `WHEN ${decisive('old')} IS NOT ${decisive('new')}` : ''
    return `CREATE TRIGGER ${schema}${sums}_${operation.toLowerCase()} AFTER ${operation} ON ${table} ${when} BEGIN
      UPDATE ${sums} SET ${SUMS.map((name) => change(name, operation)).join(', ')}; END`
  })
  return triggers.join(';\n')
}

const table = (name: string): string =>
  `CREATE TABLE ${name} (id INTEGER PRIMARY KEY CHECK (id = 1), ${SUMS.map((sum) => `${sum} INTEGER NOT NULL DEFAULT 0`).join(', ')})`

/** The sums over files that are only met (met.ts), kept in memory with them. */
export const MET_SUMS = `
${table('temp.met_sums')};
INSERT INTO temp.met_sums (id) VALUES (1);
${summing('met_inodes', 'met_sums', 'temp.')}`

/** Counts rows of a table in `counts`, or those of them that `which` holds for. */
function counting(name: string, rows: string, which?: (row: Side) => string): string {
  const trigger = (operation: Operation, when: string | undefined, by: string): string =>
    `CREATE TRIGGER count_${name}_${rows}_${operation.toLowerCase()} AFTER ${operation} ON ${rows}
      ${when === undefined ? '' : `WHEN ${when}`} BEGIN UPDATE counts SET n = n + ${by} WHERE name = '${name}'; END`
  return [
    trigger('INSERT', which?.('new'), '1'),
    trigger('DELETE', which?.('old'), '-1'),
    ...(which
      ? [trigger('UPDATE', `(${which('new')}) <> (${which('old')})`, `(${which('new')}) - (${which('old')})`)]
      : []),
  ].join(';\n')
}

/** Counts rows by the directory that they are of. */
function countingBy(
  name: string,
  rows: string,
  key: readonly string[],
  which?: (row: Side) => string,
): string {
  const columns = key.join(', ')
  const of = (row: Side): string => key.map((column) => `${row}.${column}`).join(', ')
  const add = `INSERT INTO ${name} VALUES (${of('new')}, 1) ON CONFLICT (${columns}) DO UPDATE SET n = n + 1`
  const take = `UPDATE ${name} SET n = n - 1 WHERE (${columns}) = (${of('old')});
      DELETE FROM ${name} WHERE (${columns}) = (${of('old')}) AND n = 0`
  const trigger = (suffix: string, operation: Operation, when: string | undefined, body: string): string =>
    `CREATE TRIGGER ${name}_${suffix} AFTER ${operation} ON ${rows} ${when === undefined ? '' : `WHEN ${when}`} BEGIN ${body}; END`
  return [
    trigger('insert', 'INSERT', which?.('new'), add),
    trigger('delete', 'DELETE', which?.('old'), take),
    ...(which
      ? [
          trigger('come', 'UPDATE', `${which('new')} AND NOT (${which('old')})`, add),
          trigger('go', 'UPDATE', `${which('old')} AND NOT (${which('new')})`, take),
        ]
      : []),
  ].join(';\n')
}

const isShown = (row: Side): string => `${row}.ino IS NOT NULL`
const isOnVolume = (row: Side): string => `${row}.legacy IS NOT NULL`
const isHidden = (row: Side): string => `${row}.legacy IS 0`

/** Tables, what they begin with where there are rows already, and what keeps them. Since format 10. */
export const COUNTS = `
${table('sums')};
INSERT INTO sums SELECT 1, ${SUMS.map((sum) => `CAST(total(${(SHARES[sum] ?? (() => '0'))('new')}) AS INTEGER)`).join(', ')}
  FROM inodes AS new;
${summing('inodes', 'sums')};
CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts SELECT 'owed', (SELECT count(*) FROM outbox) + (SELECT count(*) FROM garbage)
  + (SELECT count(*) FROM discarded) + (SELECT count(*) FROM gone_directories);
INSERT INTO counts SELECT 'hidden', count(*) FROM dirents WHERE legacy IS 0;
${['outbox', 'garbage', 'discarded', 'gone_directories'].map((rows) => counting('owed', rows)).join(';\n')};
${counting('hidden', 'dirents', isHidden)};
CREATE TABLE shown_names (parent INTEGER PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO shown_names SELECT parent, count(*) FROM dirents WHERE ino IS NOT NULL GROUP BY parent;
${countingBy('shown_names', 'dirents', ['parent'], isShown)};
CREATE TABLE volume_names (parent INTEGER PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO volume_names SELECT parent, count(*) FROM dirents WHERE legacy IS NOT NULL GROUP BY parent;
${countingBy('volume_names', 'dirents', ['parent'], isOnVolume)};
CREATE TABLE departed_names (
  parent INTEGER NOT NULL, parent_generation INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (parent, parent_generation)
) WITHOUT ROWID;
INSERT INTO departed_names SELECT parent, parent_generation, count(*) FROM departures GROUP BY parent, parent_generation;
${countingBy('departed_names', 'departures', ['parent', 'parent_generation'])};
`
