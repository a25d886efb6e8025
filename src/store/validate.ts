import type { KeySpace, ObjectToStore, ObjectVersion } from './contract.ts'
import { StoreRejected } from './errors.ts'

/** Longest key in UTF-8 bytes, as the contract has it. */
export const MAX_KEY_BYTES = 16_384

const VISIBLE_ASCII = /^[\x21-\x7e]*$/
const CONTENT_TYPE = /^[\x21-\x7e][\x20-\x7e]{0,254}$/

/** How messages name an object; a long key is cut, an unprintable one escaped. */
export function describeKey(space: KeySpace, key: string): string {
  const text = key.length > 200 ? `${key.slice(0, 200)}…` : key
  return `${space} ${JSON.stringify(text)}`
}

/**
 * Refuses a key that not every store could hold, so that a tree that fits one store fits all.
 * @throws StoreRejected
 */
export function checkKey(space: KeySpace, key: string): void {
  const bytes = Buffer.byteLength(key)
  if (bytes < 1 || bytes > MAX_KEY_BYTES) {
    throw new StoreRejected(
      `${describeKey(space, key)}: a key has 1 to ${MAX_KEY_BYTES} bytes, this one ${bytes}`,
    )
  }
  if (key.includes('\0')) throw new StoreRejected(`${describeKey(space, key)}: a key must not contain NUL`)
  // Half a surrogate pair has no UTF-8 form: two such keys would become one.
  if (!key.isWellFormed()) throw new StoreRejected(`${describeKey(space, key)}: the key is not valid Unicode`)
}

/** @throws StoreRejected */
export function checkVersion(space: KeySpace, key: string, version: ObjectVersion): void {
  for (const number of [version.epoch, version.version]) {
    if (Number.isSafeInteger(number) && number >= 0) continue
    throw new StoreRejected(
      `${describeKey(space, key)}: epoch and version are whole numbers from 0, not ${number}`,
    )
  }
}

/**
 * Refuses an object outside the contract's limits before anything is sent or written.
 * @throws StoreRejected
 */
export function checkObject(
  space: KeySpace,
  key: string,
  object: ObjectToStore,
  maxValueBytes: number,
): void {
  checkKey(space, key)
  checkVersion(space, key, object.version)
  if (object.value.length > maxValueBytes) {
    throw new StoreRejected(
      `${describeKey(space, key)}: ${object.value.length} bytes; this store takes ${maxValueBytes} at most`,
    )
  }
  if (!CONTENT_TYPE.test(object.contentType)) {
    throw new StoreRejected(
      `${describeKey(space, key)}: content type ${JSON.stringify(object.contentType)} is none`,
    )
  }
  for (const [name, value] of Object.entries(object.metadata)) {
    if (name !== '' && VISIBLE_ASCII.test(name) && VISIBLE_ASCII.test(value)) continue
    throw new StoreRejected(
      `${describeKey(space, key)}: metadata ${JSON.stringify(name)} is not visible ASCII; encode it`,
    )
  }
}
