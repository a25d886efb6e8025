import { hash } from 'node:crypto'

/** A name in a listing. */
export interface Item {
  readonly name: Buffer
  readonly ino: bigint
  readonly type: number
  /** Position in the listing, strictly ascending. */
  readonly cookie: number
}

// Positions below are those of "." and "..".
const FIRST_COOKIE = 16
// 48 bits of hash: so many of the upper ones choose a bucket, and a bucket is sorted when somebody comes to it.
const BUCKET_BITS = 12
const BUCKETS = 2 ** BUCKET_BITS
const BUCKET_WIDTH = 2 ** (48 - BUCKET_BITS)
const FIRST_ROOM = 64
const NO_NAMES: readonly number[] = []
// What each takes: the table itself, a row of the arrays, a bucket, and a name in it.
const TABLE_BYTES = 2048
const ROW_BYTES = 8 + 8 + 1 + 4
const BUCKET_BYTES = 160
const MEMBER_BYTES = 12

/**
 * The names of one directory in the order of a 48-bit hash. Takes some thirty bytes more than the name for each, and no step of
 * its making takes long, however many they are (P6). A name that was added twice is there once.
 */
export class NameTable {
  #count = 0
  #cookies = new Float64Array(FIRST_ROOM)
  #inos = new BigUint64Array(FIRST_ROOM)
  #types = new Uint8Array(FIRST_ROOM)
  /** Where each name ends in `#bytes`. */
  #ends = new Uint32Array(FIRST_ROOM)
  #bytes: Buffer = Buffer.allocUnsafe(FIRST_ROOM * 16)
  /** Those with names: most directories have fewer than there are buckets. */
  readonly #buckets = new Map<number, number[]>()
  readonly #sorted = new Set<number>()

  /** Tells of a name whether it is among those that were added so far; by its hash. */
  seen(): (name: Buffer) => boolean {
    const hashes = new Set(this.#cookies.subarray(0, this.#count))
    return (name) => hashes.has(cookieOf(name))
  }

  add(name: Buffer, ino: bigint, type: number): void {
    const start = this.#count === 0 ? 0 : (this.#ends[this.#count - 1] ?? 0)
    this.#makeRoom(start + name.length)
    const index = this.#count
    const cookie = cookieOf(name)
    this.#cookies[index] = cookie
    this.#inos[index] = BigInt.asUintN(64, ino)
    this.#types[index] = type
    name.copy(this.#bytes, start)
    this.#ends[index] = start + name.length
    this.#count += 1
    const bucket = bucketOf(cookie)
    const members = this.#buckets.get(bucket)
    if (members) members.push(index)
    else this.#buckets.set(bucket, [index])
  }

  /** About what it takes of memory. */
  get size(): number {
    const rows = this.#cookies.length * ROW_BYTES + this.#count * MEMBER_BYTES
    return TABLE_BYTES + rows + this.#buckets.size * BUCKET_BYTES + this.#bytes.length
  }

  /** Items behind a position. */
  *after(cookie: number): Generator<Item, undefined> {
    for (let bucket = cookie < FIRST_COOKIE ? 0 : bucketOf(cookie); bucket < BUCKETS; bucket += 1) {
      const members = this.#sortedBucket(bucket)
      for (
        let at = firstAfter(members.length, (nth) => this.#cookieOf(members, nth), cookie);
        at < members.length;
        at += 1
      ) {
        const index = members[at]
        if (index !== undefined) yield this.#item(index)
      }
    }
  }

  #cookieOf(members: readonly number[], nth: number): number {
    return this.#cookies[members[nth] ?? 0] ?? 0
  }

  #item(index: number): Item {
    return {
      name: Buffer.from(this.#nameOf(index)),
      ino: this.#inos[index] ?? 0n,
      type: this.#types[index] ?? 0,
      cookie: this.#cookies[index] ?? 0,
    }
  }

  #nameOf(index: number): Buffer {
    return this.#bytes.subarray(index === 0 ? 0 : this.#ends[index - 1], this.#ends[index])
  }

  #sortedBucket(bucket: number): readonly number[] {
    const members = this.#buckets.get(bucket)
    if (!members) return NO_NAMES
    if (this.#sorted.has(bucket)) return members
    const before = (a: number, b: number): number =>
      (this.#cookies[a] ?? 0) - (this.#cookies[b] ?? 0) || Buffer.compare(this.#nameOf(a), this.#nameOf(b))
    members.sort(before)
    const once = members.filter((index, nth) => {
      const previous = members[nth - 1]
      return previous === undefined || before(previous, index) !== 0
    })
    // Two names with one hash: the second gets the next position.
    for (let nth = 1; nth < once.length; nth += 1) {
      const [previous, index] = [this.#cookieOf(once, nth - 1), once[nth]]
      if (index !== undefined && previous >= (this.#cookies[index] ?? 0)) this.#cookies[index] = previous + 1
    }
    this.#buckets.set(bucket, once)
    this.#sorted.add(bucket)
    return once
  }

  #makeRoom(bytes: number): void {
    if (bytes > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(bytes, this.#bytes.length * 2))
      this.#bytes.copy(grown)
      this.#bytes = grown
    }
    if (this.#count < this.#cookies.length) return
    const room = this.#count * 2
    const [cookies, inos, types, ends] = [
      new Float64Array(room),
      new BigUint64Array(room),
      new Uint8Array(room),
      new Uint32Array(room),
    ]
    cookies.set(this.#cookies)
    inos.set(this.#inos)
    types.set(this.#types)
    ends.set(this.#ends)
    this.#cookies = cookies
    this.#inos = inos
    this.#types = types
    this.#ends = ends
  }
}

/** Position of a name: 48 bits of its hash, never below the positions of "." and "..". */
function cookieOf(name: Buffer): number {
  return hash('md5', name, 'buffer').readUIntLE(0, 6) + FIRST_COOKIE
}

const bucketOf = (cookie: number): number =>
  Math.min(BUCKETS - 1, Math.floor((cookie - FIRST_COOKIE) / BUCKET_WIDTH))

function firstAfter(length: number, cookieAt: (nth: number) => number, cookie: number): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >> 1
    if (cookieAt(middle) <= cookie) low = middle + 1
    else high = middle
  }
  return low
}
