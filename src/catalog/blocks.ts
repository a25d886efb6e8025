/** Bytes that are found to be a hole or not as one. */
export const BLOCK_BYTES = 4096
/** Size of a chunk in the store and of the unit of staging, in bytes. Part of a namespace's format. */
export const CHUNK_BYTES: number = 1024 * 1024
/** Blocks of a chunk: one bit each in `zeros`. */
export const CHUNK_BLOCKS: number = 256
