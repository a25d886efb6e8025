import { CHUNK_BYTES } from './context.ts'

/** Bytes that the chunk has in a file of this size. */
export const lengthOf = ({ size }: { readonly size: number }, index: number): number =>
  Math.max(0, Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES))
