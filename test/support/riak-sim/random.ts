/** Seeded random numbers (mulberry32): the same seed and the same calls give the same run. */
export interface Random {
  /** A number in [0, 1). */
  next(): number
  /** An integer in [0, limit). */
  below(limit: number): number
  /** The items in an order of chance; the list given stays as it is. */
  shuffle<T>(items: readonly T[]): T[]
  bytes(length: number): Buffer
}

export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number): number => Math.floor(next() * limit)
  return {
    next,
    below,
    shuffle(items) {
      const left = [...items]
      const result: typeof left = []
      while (left.length > 0) result.push(...left.splice(below(left.length), 1))
      return result
    },
    bytes(length) {
      return Buffer.from(Array.from({ length }, () => below(256)))
    },
  }
}
