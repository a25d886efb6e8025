import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dataBlocks, packed, unpacked, zerosOf } from '../../../src/content/zeros.ts'

const BLOCK = 4096

/** Up to 256 blocks, some of them zeros, the last one not whole. */
const shape = fc.record({
  blocks: fc.array(fc.boolean(), { minLength: 1, maxLength: 256 }),
  less: fc.integer({ min: 0, max: BLOCK - 1 }),
})

function bytesOf({ blocks, less }: { blocks: readonly boolean[]; less: number }): Buffer {
  const bytes = Buffer.alloc(blocks.length * BLOCK - less)
  for (const [block, isData] of blocks.entries()) {
    const last = Math.min(bytes.length, (block + 1) * BLOCK) - 1
    if (isData) bytes[last] = 1 + (block % 255)
  }
  return bytes
}

test('P1: a chunk comes back out of its object as it was', () => {
  fc.assert(
    fc.property(shape, (chunk) => {
      const bytes = bytesOf(chunk)
      const zeros = zerosOf(bytes)
      const data = chunk.blocks.filter((isData) => isData).length
      expect(zeros === 'all').toBe(data === 0)
      if (zeros === 'all') return
      expect(dataBlocks(zeros, chunk.blocks.length)).toBe(data)
      const value = packed(bytes, zeros)
      expect(value.length).toBeLessThanOrEqual(zeros ? 32 + data * BLOCK : bytes.length)
      expect(unpacked(value, zeros, bytes.length)?.equals(bytes)).toBe(true)
    }),
  )
})

test('P1: an object with other blocks than the catalog says is refused', () => {
  fc.assert(
    fc.property(shape, fc.nat(255), (chunk, at) => {
      const bytes = bytesOf(chunk)
      const zeros = zerosOf(bytes)
      if (zeros === 'all' || zeros === undefined) return
      const value = packed(bytes, zeros)
      const other = Buffer.from(zeros)
      other[at >> 3] = (other[at >> 3] ?? 0) ^ (1 << (at & 7))
      expect(unpacked(value, other, bytes.length)).toBeUndefined()
      expect(unpacked(value.subarray(0, -BLOCK), zeros, bytes.length)).toBeUndefined()
    }),
  )
})
