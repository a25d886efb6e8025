import { hash } from 'node:crypto'

export const HASH_BYTES = 32

/** SHA-256 as 32 bytes. */
export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}
