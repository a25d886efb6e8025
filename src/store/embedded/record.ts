import { crc32 } from 'node:zlib'
import type { KeySpace, ObjectToStore, ObjectVersion } from '../contract.ts'
import { StoreCorrupt } from '../errors.ts'
import { describeKey } from '../validate.ts'
import { SPACE_NUMBERS } from './schema.ts'

/** What the index knows about an object: all but a large value itself. */
export interface IndexRecord {
  readonly space: KeySpace
  readonly key: string
  readonly version: ObjectVersion
  readonly contentType: string
  /** JSON, kept as text because the checksum is over these very bytes. */
  readonly metadata: string
  /** Bytes of the value. */
  readonly length: number
  /** CRC-32 of the value. */
  readonly body: number
  /** Id of the value's file; `undefined` if the row holds the value. */
  readonly file: number | undefined
  readonly value: Buffer | undefined
}

/** The columns that `decodeRecord` reads. */
export const RECORD_COLUMNS = 'epoch, version, content_type, metadata, length, body, head, file, value'

export function recordOf(
  space: KeySpace,
  key: string,
  object: ObjectToStore,
  file: number | undefined,
): IndexRecord {
  return {
    space,
    key,
    version: object.version,
    contentType: object.contentType,
    metadata: JSON.stringify(object.metadata),
    length: object.value.length,
    body: crc32(object.value),
    file,
    value: file === undefined ? object.value : undefined,
  }
}

/** CRC-32 of everything but the value, and of the value's own checksum. */
export function headChecksum(record: IndexRecord): number {
  return crc32(
    JSON.stringify([
      SPACE_NUMBERS[record.space],
      record.key,
      record.version.epoch,
      record.version.version,
      record.contentType,
      record.metadata,
      record.length,
      record.body,
      record.file ?? null,
    ]),
  )
}

/**
 * The record in a row of the index. A value in the row is not checked here: `checkValue` does that.
 * @throws StoreCorrupt if the row is not what was written
 */
export function decodeRecord(
  space: KeySpace,
  key: string,
  row: Readonly<Record<string, unknown>>,
): IndexRecord {
  const { epoch, version, content_type, metadata, length, body, head, file, value } = row
  if (
    typeof epoch === 'number' &&
    typeof version === 'number' &&
    typeof content_type === 'string' &&
    typeof metadata === 'string' &&
    typeof length === 'number' &&
    typeof body === 'number' &&
    (typeof file === 'number' ? value === null : file === null && value instanceof Uint8Array)
  ) {
    const record: IndexRecord = {
      space,
      key,
      version: { epoch, version },
      contentType: content_type,
      metadata,
      length,
      body,
      file: typeof file === 'number' ? file : undefined,
      value:
        value instanceof Uint8Array
          ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
          : undefined,
    }
    if (headChecksum(record) === head) return record
  }
  throw new StoreCorrupt(
    `${describeKey(space, key)}: its record in the index is damaged; store the object again`,
  )
}

/** @throws StoreCorrupt if `value` is not the bytes that were stored; `where` names the place for the operator */
export function checkValue(record: IndexRecord, value: Buffer, where: string): void {
  if (value.length !== record.length) {
    throw new StoreCorrupt(
      `${describeKey(record.space, record.key)}: ${where} has ${value.length} of ${record.length} bytes; ` +
        'store the object again',
    )
  }
  if (crc32(value) !== record.body) {
    throw new StoreCorrupt(
      `${describeKey(record.space, record.key)}: the checksum of ${where} does not hold; store the object again`,
    )
  }
}

/** The metadata of a record whose checksum holds. */
export function metadataOf(record: IndexRecord): Record<string, string> {
  const parsed: unknown = JSON.parse(record.metadata)
  const metadata: Record<string, string> = {}
  if (typeof parsed !== 'object' || parsed === null) return metadata
  for (const [name, value] of Object.entries(parsed)) {
    // defineProperty: an entry may be called __proto__.
    Object.defineProperty(metadata, name, {
      value: String(value),
      enumerable: true,
      configurable: true,
      writable: true,
    })
  }
  return metadata
}
