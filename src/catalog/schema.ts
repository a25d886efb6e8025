import { S_IFDIR, S_IFMT } from '../base/attributes.ts'
import { COUNTS } from './counts.ts'

/** "ferr" in ASCII: PRAGMA application_id of a catalog. */
export const APPLICATION_ID = 0x66657272

/** Format of the schema below. A catalog with a higher one is refused (written by a newer ferryfs). */
export const FORMAT = 17

/** Since format 5. */
const DEPARTURES = `
CREATE TABLE departures (
  parent INTEGER NOT NULL, parent_generation INTEGER NOT NULL, name BLOB NOT NULL,
  ino INTEGER NOT NULL, generation INTEGER NOT NULL, bucket INTEGER NOT NULL,
  PRIMARY KEY (parent, parent_generation, name, ino, generation)
) WITHOUT ROWID;
CREATE INDEX departures_ino ON departures (ino);
CREATE INDEX departures_bucket ON departures (parent, parent_generation, bucket);
CREATE INDEX garbage_free ON garbage (since) WHERE held = 0;
CREATE INDEX garbage_held ON garbage (ino) WHERE held = 1;
CREATE INDEX outbox_kind ON outbox (kind, seq);
`

/** Since format 9: what the reaper looks for, every two seconds, without a look at all the others. */
const ON_VOLUME =
  'CREATE INDEX inodes_on_volume ON inodes (ino) WHERE authority = 1 AND legacy_ino IS NOT NULL'

/** Since format 6. */
const CONTENT = `
CREATE TABLE hashes (
  file INTEGER NOT NULL, level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (file, level, idx)
) WITHOUT ROWID;
CREATE TABLE gaps (
  file INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, PRIMARY KEY (file, start)
) WITHOUT ROWID;
CREATE TABLE zeros (
  file INTEGER NOT NULL, idx INTEGER NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (file, idx)
) WITHOUT ROWID;
CREATE TABLE incoming (
  file INTEGER NOT NULL, level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB, zeros BLOB,
  PRIMARY KEY (file, level, idx)
) WITHOUT ROWID;
CREATE TABLE discarded (file INTEGER PRIMARY KEY, ino INTEGER NOT NULL);
`

/** Since format 8. */
const DOUBTS = `
CREATE TABLE losses (seq INTEGER PRIMARY KEY AUTOINCREMENT, since INTEGER NOT NULL, detail TEXT NOT NULL);
CREATE TABLE doubtful (ino INTEGER PRIMARY KEY);
`

/** Since format 10. */
const BOUNDED = `
CREATE TABLE gone_directories (
  generation INTEGER PRIMARY KEY, ino INTEGER NOT NULL, record_generation INTEGER NOT NULL, shards INTEGER NOT NULL
);
CREATE INDEX staged_unsynced ON staged (ino) WHERE synced = 0;
CREATE INDEX staged_unsealed ON staged (ino, idx) WHERE sums IS NULL;
CREATE INDEX outbox_since ON outbox (since);
DROP INDEX inodes_on_volume;
CREATE INDEX inodes_volumes ON inodes (ino) WHERE authority = 0;
CREATE INDEX inodes_drainable ON inodes (ino)
  WHERE authority = 1 AND legacy_ino IS NOT NULL AND version > 0 AND dirty = 0;
CREATE INDEX inodes_volume_directories ON inodes (ino)
  WHERE authority = 1 AND legacy_ino IS NOT NULL AND (mode & ${S_IFMT}) = ${S_IFDIR};
CREATE INDEX garbage_since ON garbage (since);
${COUNTS}`

/** Since format 15: where something was mounted below SOURCE (mount-places.ts). */
const MOUNTS = `
CREATE TABLE mounts (
  parent INTEGER NOT NULL, name BLOB NOT NULL, device INTEGER NOT NULL,
  root_ino INTEGER NOT NULL, root_btime TEXT NOT NULL, PRIMARY KEY (parent, name)
) WITHOUT ROWID`

/** Since format 16: what a catalog that was made from the store has to find on SOURCE (unmet-names.ts). */
const UNMET = `
CREATE TABLE unmet (
  ino INTEGER PRIMARY KEY, links INTEGER NOT NULL, most INTEGER NOT NULL, is_left INTEGER NOT NULL, doubt TEXT
);
CREATE TABLE found_names (
  device INTEGER NOT NULL, legacy_ino INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL, shown INTEGER,
  PRIMARY KEY (device, legacy_ino, parent, name)
) WITHOUT ROWID`

/** Since format 11: 0 where a file in doubt has not been compared with the store yet (doubts.ts). */
const COMPARED = 'ALTER TABLE doubtful ADD COLUMN compared INTEGER NOT NULL DEFAULT 0'

/**
 * `inodes`: one row for every file that was ever looked at. What its columns mean is said in inode.ts.
 *
 * `dirents`: what a directory shows and what lies under it, one row a name. `ino` is the file that the overlay shows
 * there (NULL: nothing, a whiteout). `legacy` says what the legacy volume has at the same place: the inode of that file,
 * 0 for a file that was deleted in the overlay and is still there, -1 for one that the catalog does not know (`UNKNOWN_FILE`), NULL
 * for nothing. `bucket` is a 16-bit hash of the name (name-buckets.ts); a shard of the directory's record in the store is a range of it.
 *
 * `hashes`: SHA-256 of every object of the stored content, chunks (level 0) and the pages that list them (from level 1 on); `file`
 * is the file's generation, which no other file has. A chunk of zeros has no row and no object: `gaps` has the runs of those,
 * the last of them without an end. `zeros`: which blocks of a chunk, or of content that is one object, are zeros.
 * `incoming`: what a copy under way has found different. `discarded`: files that are gone, and not all of their objects are
 * listed as garbage yet. `gone_directories`: the same of directories, with what their records consisted of.
 * `staged`: chunks whose current bytes are in the staging file, and what is known of those bytes (`StagedChunk` in catalog.ts).
 * `outbox`: store work that is owed, one row per kind and inode. `garbage`: objects that nothing refers to any more.
 * `unproven`: files whose copy was made from the volume's page cache, in the order of the copies, while the volume has not been
 * synced since. `held` in `garbage`: a record in the store may still name the file or directory that the object is of; the object
 * is not deleted before that has changed. `dirty_shards`: parts of directory records to write. `departures`: names that a
 * directory's record in the store may still have for a file that is not there any more (departures.ts).
 * `intents`: operations on the legacy volume that may be half done, and the answers to requests that the kernel may repeat.
 * `sums`, `counts`, `shown_names`, `volume_names`, `departed_names`: how many of them there are, kept by triggers (counts.ts).
 * `mounts`: where something was mounted on the legacy volume, below SOURCE (mount-places.ts).
 * `unmet`, `found_names`: names of files that the store does not know, until SOURCE has been looked at (unmet-names.ts).
 * `losses`: when damage was found to have taken committed transactions; `doubtful`: the files that may be older for it (doubts.ts).
 */
export const SCHEMA = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inodes (
  ino INTEGER PRIMARY KEY, generation INTEGER NOT NULL,
  mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, nlink INTEGER NOT NULL, rdev INTEGER NOT NULL,
  size INTEGER NOT NULL, blocks INTEGER NOT NULL,
  atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
  authority INTEGER NOT NULL,
  legacy_ino INTEGER, legacy_dev INTEGER NOT NULL, btime INTEGER NOT NULL,
  base INTEGER NOT NULL, base_limit INTEGER NOT NULL, staged INTEGER NOT NULL, truncating INTEGER,
  dirty INTEGER NOT NULL, key TEXT, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
  layout INTEGER NOT NULL, digest BLOB, stored_size INTEGER NOT NULL,
  fp_size INTEGER, fp_mtime INTEGER, fp_ctime INTEGER,
  xattrs BLOB, target BLOB, orphan INTEGER NOT NULL, failure TEXT,
  dir_generation INTEGER NOT NULL, dir_shards INTEGER NOT NULL, flags INTEGER NOT NULL DEFAULT 0,
  superseded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX inodes_legacy ON inodes (legacy_ino) WHERE legacy_ino IS NOT NULL AND legacy_ino <> ino;
CREATE UNIQUE INDEX inodes_key ON inodes (key) WHERE key IS NOT NULL;
CREATE INDEX inodes_failure ON inodes (ino) WHERE failure IS NOT NULL;
CREATE INDEX inodes_orphan ON inodes (ino) WHERE orphan = 1;
CREATE INDEX inodes_staged ON inodes (ino) WHERE staged <> 0;
${ON_VOLUME};
CREATE TABLE dirents (
  parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER, legacy INTEGER, bucket INTEGER NOT NULL,
  PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE INDEX dirents_ino ON dirents (ino) WHERE ino IS NOT NULL;
CREATE INDEX dirents_moved ON dirents (legacy) WHERE legacy IS NOT NULL AND legacy IS NOT ino;
CREATE INDEX dirents_bucket ON dirents (parent, bucket) WHERE ino IS NOT NULL;
${CONTENT}
CREATE TABLE staged (
  ino INTEGER NOT NULL, idx INTEGER NOT NULL, synced INTEGER NOT NULL DEFAULT 0,
  sums BLOB, cut INTEGER NOT NULL DEFAULT 0, former INTEGER, PRIMARY KEY (ino, idx)
) WITHOUT ROWID;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ino INTEGER NOT NULL, since INTEGER NOT NULL,
  UNIQUE (kind, ino)
);
CREATE TABLE garbage (
  space TEXT NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, version INTEGER NOT NULL, ino INTEGER NOT NULL,
  since INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE TABLE unproven (seq INTEGER PRIMARY KEY AUTOINCREMENT, ino INTEGER NOT NULL UNIQUE);
CREATE TABLE dirty_shards (ino INTEGER NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (ino, shard)) WITHOUT ROWID;
CREATE TABLE intents (id INTEGER PRIMARY KEY, operation TEXT NOT NULL, answer TEXT);
${DEPARTURES}${DOUBTS}${COMPARED};${BOUNDED};${MOUNTS};${UNMET}`

/** By format: what makes a catalog of the format before it one of this format. */
export const UPGRADES: Readonly<Record<number, string>> = {
  // `staged` became the number of the staging file; 1 is what those are that format 1 made.
  2: 'DROP INDEX inodes_staged; CREATE INDEX inodes_staged ON inodes (ino) WHERE staged <> 0',
  // `synced` became a number of bytes: of what format 2 synced nobody knows how many it were.
  3: `ALTER TABLE staged ADD COLUMN sums BLOB; ALTER TABLE staged ADD COLUMN cut INTEGER NOT NULL DEFAULT 0;
    INSERT OR REPLACE INTO meta VALUES ('staging-lengths', 'unknown')`,
  4: 'CREATE TABLE unproven (seq INTEGER PRIMARY KEY AUTOINCREMENT, ino INTEGER NOT NULL UNIQUE)',
  5: `ALTER TABLE garbage ADD COLUMN held INTEGER NOT NULL DEFAULT 0; ${DEPARTURES}`,
  // `chunks` and `pages` became `hashes`, by generation; `gaps` are what lies between the chunks. 2^40 stands for "no end".
  6: `${CONTENT}
INSERT INTO hashes SELECT generation, 0, idx, hash FROM chunks JOIN inodes ON inodes.ino = chunks.ino;
INSERT INTO hashes SELECT generation, 1, idx, hash FROM pages JOIN inodes ON inodes.ino = pages.ino;
INSERT INTO gaps SELECT file, start, "end" FROM (
  SELECT file, coalesce(lag(idx) OVER (PARTITION BY file ORDER BY idx) + 1, 0) AS start, idx AS "end"
  FROM (
    SELECT file, idx FROM hashes WHERE level = 0
    UNION ALL SELECT generation, 1099511627776 FROM inodes WHERE layout = 2
  )
) WHERE start < "end";
DROP TABLE chunks; DROP TABLE pages`,
  7: 'ALTER TABLE staged ADD COLUMN former INTEGER',
  8: DOUBTS,
  9: ON_VOLUME,
  10: BOUNDED,
  11: `${COMPARED}; UPDATE doubtful SET compared = 1`,
  // Of times that are out of what 64 bits of nanoseconds have, format 11 had the nearest; now they are kept (inode.ts).
  12: '',
  13: 'ALTER TABLE inodes ADD COLUMN flags INTEGER NOT NULL DEFAULT 0',
  // `bucket` became a hash with a key, which no statement can take: name-buckets.ts.
  14: '',
  // Until then what was mounted was told by the number of its device alone.
  15: `${MOUNTS};
INSERT INTO mounts SELECT d.parent, d.name, i.legacy_dev, 0, '0'
FROM inodes AS i JOIN dirents AS d ON d.ino = i.ino AND d.legacy = i.ino JOIN inodes AS p ON p.ino = d.parent
WHERE i.legacy_ino IS NOT NULL AND p.legacy_ino IS NOT NULL AND i.legacy_dev <> p.legacy_dev`,
  16: UNMET,
  // What was superseded before is not known any more, and goes as it did.
  17: 'ALTER TABLE inodes ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0',
}
