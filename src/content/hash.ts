import { hash } from 'node:crypto'

/** SHA-256 as 32 bytes. */
export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}
