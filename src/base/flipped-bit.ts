/** Two sums, each modulo 2^32; every step depends on all before it (SQLite's checksum of its log). */
export interface Sums {
  readonly first: number
  readonly second: number
}

/** Where one bit of the summed bytes is not what it was. */
export interface FlippedBit {
  /** Of words of 32 bits. */
  readonly word: number
  /** To be applied to the word with XOR. */
  readonly mask: number
}

/**
 * The bits of which one, flipped, makes words that have the sums `found` have the sums `wanted`. The sums are linear, so what a
 * change of a word adds to them depends on its place and not on the other words: no need to add up anything again.
 */
export function flippedBits(words: Int32Array, found: Sums, wanted: Sums): FlippedBit[] {
  const first = (wanted.first - found.first) | 0
  const second = (wanted.second - found.second) | 0
  const bits: FlippedBit[] = []
  // What 1 in the first and in the second word of a pair adds to the sums, from the last pair to the first.
  let even = { first: 1, second: 1 }
  let odd = { first: 0, second: 1 }
  for (let at = words.length - 2; at >= 0; at -= 2) {
    for (const [word, adds] of [
      [at, even],
      [at + 1, odd],
    ] as const) {
      for (let bit = 0; bit < 32; bit += 1) {
        const mask = 1 << bit
        const change = ((words[word] ?? 0) & mask) === 0 ? mask : -mask
        if (Math.imul(change, adds.first) === first && Math.imul(change, adds.second) === second)
          bits.push({ word, mask })
      }
    }
    even = afterOnePair(even)
    odd = afterOnePair(odd)
  }
  return bits
}

function afterOnePair({ first, second }: Sums): Sums {
  const next = (first + second) | 0
  return { first: next, second: (second + next) | 0 }
}

/** How many bits of the sums differ. */
export function bitsBetween(one: Sums, other: Sums): number {
  return ones(one.first ^ other.first) + ones(one.second ^ other.second)
}

function ones(word: number): number {
  let count = 0
  for (let rest = word; rest !== 0; rest &= rest - 1) count += 1
  return count
}
