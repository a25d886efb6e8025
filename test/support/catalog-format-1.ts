/** The schema of a catalog of format 1, as the first release made it. */
export const SCHEMA_OF_FORMAT_1 = `
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
  dir_generation INTEGER NOT NULL, dir_shards INTEGER NOT NULL
);
CREATE INDEX inodes_legacy ON inodes (legacy_ino) WHERE legacy_ino IS NOT NULL AND legacy_ino <> ino;
CREATE UNIQUE INDEX inodes_key ON inodes (key) WHERE key IS NOT NULL;
CREATE INDEX inodes_failure ON inodes (ino) WHERE failure IS NOT NULL;
CREATE INDEX inodes_orphan ON inodes (ino) WHERE orphan = 1;
CREATE INDEX inodes_staged ON inodes (ino) WHERE staged = 1;
CREATE TABLE dirents (
  parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER, legacy INTEGER, bucket INTEGER NOT NULL,
  PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE INDEX dirents_ino ON dirents (ino) WHERE ino IS NOT NULL;
CREATE INDEX dirents_moved ON dirents (legacy) WHERE legacy IS NOT NULL AND legacy IS NOT ino;
CREATE INDEX dirents_bucket ON dirents (parent, bucket) WHERE ino IS NOT NULL;
CREATE TABLE chunks (
  ino INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (ino, idx)
) WITHOUT ROWID;
CREATE TABLE pages (
  ino INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (ino, idx)
) WITHOUT ROWID;
CREATE TABLE staged (
  ino INTEGER NOT NULL, idx INTEGER NOT NULL, synced INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (ino, idx)
) WITHOUT ROWID;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ino INTEGER NOT NULL, since INTEGER NOT NULL,
  UNIQUE (kind, ino)
);
CREATE TABLE garbage (
  space TEXT NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, version INTEGER NOT NULL, ino INTEGER NOT NULL,
  since INTEGER NOT NULL, PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE TABLE dirty_shards (ino INTEGER NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (ino, shard)) WITHOUT ROWID;
CREATE TABLE intents (id INTEGER PRIMARY KEY, operation TEXT NOT NULL, answer TEXT);
PRAGMA application_id=0x66657272; PRAGMA user_version=1;
`
