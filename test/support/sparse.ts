import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import koffi from 'koffi'

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

/** Makes a file of 4 EiB, one hole: more than a number says exactly. */
export function writeLarge(path: string): void {
  const descriptor = openSync(path, 'w')
  const truncate = koffi.load('libc.so.6').func('int ftruncate(int, int64_t)')
  const failed = truncate(descriptor, 4n << 60n) !== 0
  closeSync(descriptor)
  if (failed) throw new Error(`${path}: the file system has no file of this size`)
}
