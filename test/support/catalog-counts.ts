import { DatabaseSync } from 'node:sqlite'

const FILE = '(mode & 61440) <> 16384 AND orphan = 0 AND nlink > 0'
const STORED = `${FILE} AND version > 0 AND dirty = 0`

/** Each count that a catalog keeps, with what it is counted from. */
const COUNTED: readonly (readonly [kept: string, counted: string])[] = [
  [
    'SELECT files, bytes, stored, stored_bytes, dirty, failed, drained, own, on_volume FROM sums',
    `SELECT coalesce(sum(${FILE}), 0) AS files, coalesce(sum((${FILE}) * size), 0) AS bytes,
       coalesce(sum(${STORED}), 0) AS stored, coalesce(sum((${STORED}) * size), 0) AS stored_bytes,
       coalesce(sum(${FILE} AND dirty <> 0), 0) AS dirty, coalesce(sum(${FILE} AND failure IS NOT NULL), 0) AS failed,
       coalesce(sum(${STORED} AND authority = 1 AND legacy_ino IS NULL), 0) AS drained,
       coalesce(sum(authority = 1), 0) AS own,
       coalesce(sum((authority = 0 AND orphan = 0 AND nlink > 0) OR (authority = 1 AND base = 1)), 0) AS on_volume
     FROM inodes`,
  ],
  [
    "SELECT n FROM counts WHERE name = 'owed'",
    `SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM garbage) + (SELECT count(*) FROM discarded)
       + (SELECT count(*) FROM gone_directories) AS n`,
  ],
  ["SELECT n FROM counts WHERE name = 'hidden'", 'SELECT count(*) AS n FROM dirents WHERE legacy = 0'],
  [
    'SELECT parent, n FROM shown_names ORDER BY parent',
    'SELECT parent, count(*) AS n FROM dirents WHERE ino IS NOT NULL GROUP BY parent ORDER BY parent',
  ],
  [
    'SELECT parent, n FROM volume_names ORDER BY parent',
    'SELECT parent, count(*) AS n FROM dirents WHERE legacy IS NOT NULL GROUP BY parent ORDER BY parent',
  ],
  [
    'SELECT parent, parent_generation, n FROM departed_names ORDER BY 1, 2',
    'SELECT parent, parent_generation, count(*) AS n FROM departures GROUP BY 1, 2 ORDER BY 1, 2',
  ],
]

/** What the catalog of this file keeps count of, and the same as it is counted now. */
export function countsOf(path: string): { kept: unknown[]; counted: unknown[] } {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const rows = (sql: string): unknown => database.prepare(sql).all()
    return {
      kept: COUNTED.map(([kept]) => rows(kept)),
      counted: COUNTED.map(([, counted]) => rows(counted)),
    }
  } finally {
    database.close()
  }
}
