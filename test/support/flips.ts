import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
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

/** Pages of a database, which have their former content: a write that the disk said it had done, and had not. */
export interface PutBack {
  /** Below the directory. */
  readonly file: string
  /** From 0 on. */
  readonly pages: readonly number[]
  readonly former: Buffer
}

export type Damage = Flip | PutBack

/**
 * Pages that are not what they were in a copy of the directory, each alone, and all of a file: of each file that has checksums
 * of its pages beside it. `most` at most, of every such file at least one.
 */
export function putBackIn(directory: string, formerly: string, random: Random, most: number): PutBack[] {
  const found: PutBack[] = []
  for (const sums of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const file = sums.replace(/-sums$/, '')
    if (file === sums || !existsSync(join(formerly, file))) continue
    const [now, former] = [readFileSync(join(directory, file)), readFileSync(join(formerly, file))]
    const pages: number[] = []
    for (let at = 0; at < Math.min(now.length, former.length); at += PAGE)
      if (!now.subarray(at, at + PAGE).equals(former.subarray(at, at + PAGE))) pages.push(at / PAGE)
    if (pages.length > 0) found.push({ file, pages: [...pages], former })
    for (let count = 1; count < most && pages.length > 0; count += 1)
      found.push({ file, pages: pages.splice(random.below(pages.length), 1), former })
  }
  return found
}

export const sayDamage = (one: Damage): string =>
  'bit' in one ? `bit ${one.bit} of ${one.file}` : `former pages ${one.pages.join(', ')} of ${one.file}`

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

export function damage(directory: string, one: Damage): void {
  if ('bit' in one) flip(directory, one)
  else putBack(directory, one)
}

function putBack(directory: string, { file, pages, former }: PutBack): void {
  const bytes = readFileSync(join(directory, file))
  for (const page of pages) former.copy(bytes, page * PAGE, page * PAGE, (page + 1) * PAGE)
  writeFileSync(join(directory, file), bytes)
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
