/** Ends of the names of a database's file and of what SQLite and this program have beside it. */
export const DATABASE_SUFFIXES = ['', '-wal', '-shm', '-witness', '-sums', '-wal-damaged'] as const
