/** Bytes that are found to be a hole or not as one. */
export const BLOCK_BYTES = 4096
/** Blocks of a chunk: one bit each in `zeros`. */
export const CHUNK_BLOCKS: number = 256
