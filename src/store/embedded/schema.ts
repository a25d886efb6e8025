import type { KeySpace } from '../contract.ts'

/** "fers" in ASCII: PRAGMA application_id of an embedded store's index. */
export const APPLICATION_ID = 0x66657273

/** Beside what format 1 had in the beginning; an index without it gets it with its first change. */
export const STATE_NUMBER_TABLE =
  'CREATE TABLE IF NOT EXISTS state_number (id INTEGER PRIMARY KEY CHECK (id = 0), number INTEGER NOT NULL)'

/** Format of the schema below and of the value files. A store with a higher one is refused. */
export const FORMAT = 1

/**
 * `record`: one row for every object. `value` holds a small value, `file` the id of the file of a large one. `head` is
 * the CRC-32 of all that the row says (record.ts), `body` that of the value, so a version can be trusted without
 * reading a large value. Ids grow, so inserts append; the key has its own index, which lists a space without its
 * values.
 *
 * `garbage`: files that no row refers to any more and that are to be removed.
 *
 * `file_ids` (one row): ids below `reserved` may have been used; ids below `settled` have a row or no file. What a
 * killed process left behind lies between the two, so opening looks there and nowhere else.
 *
 * `state_number` (one row or none): which state of the store this is, so that an older copy of the index is known (state-number.ts).
 */
export const SCHEMA = `
CREATE TABLE record (
  id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key TEXT NOT NULL,
  epoch INTEGER NOT NULL, version INTEGER NOT NULL, content_type TEXT NOT NULL, metadata TEXT NOT NULL,
  length INTEGER NOT NULL, body INTEGER NOT NULL, head INTEGER NOT NULL, file INTEGER, value BLOB
);
CREATE UNIQUE INDEX record_key ON record (space, key);
CREATE INDEX record_file ON record (file) WHERE file IS NOT NULL;
CREATE TABLE garbage (file INTEGER PRIMARY KEY);
CREATE TABLE file_ids (id INTEGER PRIMARY KEY CHECK (id = 0), reserved INTEGER NOT NULL, settled INTEGER NOT NULL);
INSERT INTO file_ids VALUES (0, 0, 0);
${STATE_NUMBER_TABLE}
`

/** How a key space is written in the index. */
export const SPACE_NUMBERS: Readonly<Record<KeySpace, number>> = { files: 1, chunks: 2, dirs: 3, meta: 4 }
