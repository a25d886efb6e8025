import { Random } from '../../support/rig/random.ts'
import { EVERYTHING, type Journal, NOTHING, type Writeback } from './journal.ts'
import type { VolumeImage } from './image.ts'

/**
 * How the whole machine was caught. `names`: what was done to names is on the disks, no data that was not synced. `least`: what
 * was synced and nothing else. `data`: one disk has besides all data that needs no new blocks. `one`: one disk has
 * everything, the others the least. `free`: each disk, file and page by itself.
 */
type Whole = 'names' | 'least' | 'data' | 'one' | 'free'

/** A moment at which the power goes, and the seed of what has reached the disks by then. */
export interface CrashState {
  /** The last event that took place. */
  readonly cut: number
  readonly seed: number
  /** How the machine was caught; undefined: drawn. */
  readonly whole?: Whole
  /** The disk that is not like the others, for `data` and `one`. */
  readonly one?: number
}

/** How far one file was written back: each a way in which real disks differ. */
type Manner = 'all' | 'none' | 'until' | 'pages'
const MANNERS: readonly Manner[] = ['all', 'none', 'until', 'pages', 'pages']

function drawWhole(seed: number, volumes: number): { whole: Whole; one: number } {
  const random = new Random(seed ^ 0x5eed)
  const manner = random.next()
  const shares = [
    [0.15, 'names'],
    [0.2, 'least'],
    [0.3, 'data'],
    [0.4, 'one'],
  ] as const
  const whole = shares.find(([share]) => manner < share)?.[1] ?? 'free'
  return { whole, one: random.below(volumes) }
}

/** What one volume, the `index`-th, has on its disk in the crash state. */
export function drawVolume(
  journal: Journal,
  { cut, seed, whole: given, one: chosen }: CrashState,
  index: number,
  volumes: number,
): VolumeImage {
  const forced = journal.forcedAt(cut)
  const drawn = drawWhole(seed, volumes)
  const whole = given ?? drawn.whole
  const isOne = (chosen ?? drawn.one) === index
  if (whole === 'names') return journal.imageAt(cut, cut, NOTHING)
  if (whole === 'one' && isOne) return journal.imageAt(cut, cut, EVERYTHING)
  if (whole === 'data' && isOne) return journal.imageAt(cut, forced, EVERYTHING)
  if (whole !== 'free') return journal.imageAt(cut, forced, NOTHING)
  const random = new Random(seed * 31 + index)
  return journal.imageAt(cut, drawCommit(random, forced, cut), drawWriteback(cut, seed * 17 + index))
}

/** A commit may come at any moment, by itself every five seconds; no later than what was synced asks for. */
function drawCommit(random: Random, forced: number, cut: number): number {
  const manner = random.next()
  if (manner < 0.3) return forced
  if (manner < 0.6) return cut
  return forced + random.below(cut - forced + 1)
}

function drawWriteback(cut: number, seed: number): Writeback {
  const files = new Map<number, (page: number, synced: number) => number>()
  const of = (file: number): ((page: number, synced: number) => number) => {
    const known = files.get(file)
    if (known) return known
    const random = new Random(seed + file * 7919)
    const manner = MANNERS[random.below(MANNERS.length)] ?? 'all'
    const share = random.next()
    const between = (synced: number, part: number): number => Math.floor(synced + (cut - synced) * part)
    const pages = new Map<number, number>()
    const upTo = (page: number, synced: number): number => {
      if (manner === 'all') return cut
      if (manner === 'none') return synced
      if (manner === 'until') return between(synced, share)
      let part = pages.get(page)
      if (part === undefined) {
        const draw = random.next()
        part = draw < 0.4 ? 1 : draw < 0.7 ? 0 : random.next()
        pages.set(page, part)
      }
      return between(synced, part)
    }
    files.set(file, upTo)
    return upTo
  }
  return {
    upTo: (file, page, synced) => of(file)(page, synced),
    sizeFirst: (file) => new Random(seed + file * 104_729).next() < 0.2,
  }
}
