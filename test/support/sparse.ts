import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'

/** Bytes at an offset of a file that is a hole everywhere else. */
export interface Piece {
  readonly at: number
  readonly bytes: Buffer
}

/** Makes a file of `size` bytes that has nothing but these pieces in it. */
export function writeSparse(path: string, size: number, pieces: readonly Piece[]): void {
  const descriptor = openSync(path, 'w')
  try {
    for (const { at, bytes } of pieces) writeSync(descriptor, bytes, 0, bytes.length, at)
    ftruncateSync(descriptor, size)
  } finally {
    closeSync(descriptor)
  }
}
