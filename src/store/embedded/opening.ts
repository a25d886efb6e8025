import { type Database, DatabaseDamaged } from '../../base/database.ts'
import { reasonOf, UsageError } from '../../base/errors.ts'
import type { FileLock } from '../../base/file-lock.ts'
import { APPLICATION_ID, FORMAT, SCHEMA } from './schema.ts'

/** What the index is to be. */
export const INDEX = { applicationId: APPLICATION_ID, format: FORMAT, schema: SCHEMA }

/** Runs `open`; what it had opened when it failed is closed again. @throws UsageError */
export async function opening<T>(
  directory: string,
  open: (opened: { lock?: FileLock; database?: Database }) => Promise<T>,
): Promise<T> {
  const opened: { lock?: FileLock; database?: Database } = {}
  try {
    return await open(opened)
  } catch (error) {
    await opened.database?.close().catch(() => undefined)
    opened.lock?.release()
    if (error instanceof UsageError) throw error
    const damaged = error instanceof DatabaseDamaged
    throw new UsageError(
      `the embedded store in ${directory} cannot be opened: ${reasonOf(error)}` +
        (damaged ? '; restore it from a backup, or give an empty directory as --store' : ''),
      4,
      { cause: error },
    )
  }
}
