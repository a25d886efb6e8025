import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'

const unseeded = { bytes: crypto.randomBytes, number: Math.random }

let drawn: (() => number) | undefined

function seededBytes(length: number): Buffer {
  const draw = drawn
  return draw ? Buffer.from(Array.from({ length }, () => Math.trunc(draw() * 256))) : unseeded.bytes(length)
}

Object.assign(crypto, { randomBytes: seededBytes })
syncBuiltinESMExports()

/**
 * From now on Math.random() and randomBytes() follow the draws, which give numbers of [0, 1); none: chance again. The order in
 * which a catalog keeps names hangs on a key of random bytes. UUIDs stay random: they have to differ from one life to the next.
 */
export function setChance(draw: (() => number) | undefined): void {
  drawn = draw
  Math.random = draw ?? unseeded.number
}
