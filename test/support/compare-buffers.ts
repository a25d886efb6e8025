import { expect } from 'vitest'

/**
 * Buffers are compared as such: `toEqual` takes seconds for a few MiB, element by element. Both have to be of that kind: a Buffer and
 * a Uint8Array differ, as without this.
 */
expect.addEqualityTesters([
  (one: unknown, other: unknown) =>
    Buffer.isBuffer(one) && Buffer.isBuffer(other) ? one.equals(other) : undefined,
])
