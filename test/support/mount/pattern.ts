/** `length` bytes that differ at every offset of a chunk and for every seed, so that a byte of another place shows. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let state = Math.imul(seed + 1, 2_654_435_761) >>> 0 || 1
  for (let at = 0; at < length; at += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[at] = state
  }
  return bytes
}
