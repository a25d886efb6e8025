import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { CI_SEED } from './seed.ts'
import type { Random } from './rig/random.ts'

const PAGE = 4096

/** A seed for what is drawn; FERRYFS_SEED brings a run back. */
export const flipSeed = (): number => Number(process.env.FERRYFS_SEED ?? CI_SEED ?? Date.now() % 1_000_000)

/** How much more than in `npm test`: FERRYFS_RUNS=0 tries every page. */
export const flipRuns = (usual: number): number => {
  const runs = Number(process.env.FERRYFS_RUNS ?? 1)
  return runs === 0 ? Number.POSITIVE_INFINITY : usual * runs
}

/** One bit of a file. */
export interface Flip {
  /** Below the directory. */
  readonly file: string
  readonly bit: number
}

/** One bit for each 4 KiB of each file below a directory, `most` at most, of every file at least one. */
export function flipsIn(directory: string, random: Random, most: number): Flip[] {
  const pages: Flip[][] = []
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const { size } = statSync(path)
    const file = path.slice(directory.length + 1)
    const bits: Flip[] = []
    for (let at = 0; at < size; at += PAGE)
      bits.push({ file, bit: at * 8 + random.below(Math.min(PAGE, size - at) * 8) })
    if (bits.length > 0) pages.push(bits)
  }
  const each = Math.max(1, Math.floor(most / Math.max(1, pages.length)))
  return pages.flatMap((bits) =>
    bits.length <= each
      ? bits
      : Array.from({ length: each }, () => bits.splice(random.below(bits.length), 1)).flat(),
  )
}

export function flip(directory: string, { file, bit }: Flip): void {
  const descriptor = openSync(join(directory, file), 'r+')
  const byte = Buffer.alloc(1)
  const at = Math.floor(bit / 8)
  readSync(descriptor, byte, 0, 1, at)
  byte[0] = (byte[0] ?? 0) ^ (1 << (bit % 8))
  writeSync(descriptor, byte, 0, 1, at)
  closeSync(descriptor)
}
