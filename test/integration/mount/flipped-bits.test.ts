import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { type Flip, flipRuns, flipSeed } from '../../support/flips.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import {
  askCatalog,
  compareSeen,
  fillUp,
  LeftBehind,
  type Seen,
  seenIn,
} from '../../support/mount/flipping.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { onSmallDisk } from '../../support/mount/small-disk.ts'
import { Random } from '../../support/rig/random.ts'

const MiB = 1 << 20
// A line for each bit that was tried, for whoever watches.
const JOURNAL = process.env.FERRYFS_JOURNAL

describeMounted('P1 P2: one flipped bit in what a daemon leaves on its machine', () => {
  let ferry: Ferry
  let store: string

  beforeEach(() => {
    ferry = new Ferry({ surroundings: onSmallDisk('store', 'size=12m,mode=700', {}) })
    store = join(ferry.root, 'store')
    mkdirSync(ferry.under('d'))
    for (let at = 0; at < 12; at += 1) writeFileSync(ferry.under(`d/old-${at}`), pattern(at * 700, at))
    writeFileSync(ferry.under('chunks'), pattern(2 * MiB + 77, 40))
    writeFileSync(ferry.under('value'), pattern(200_000, 41))
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Files in the store, and files that are only staged, or dirty on the volume, as the store's disk is full; then the end. */
  async function leave(mode: string, end: 'killed' | 'unmounted'): Promise<Seen> {
    const begin = mode === 'store-only' ? 'drain' : mode
    await ferry.mount('--mode', begin, '--store', `embedded:${store}`)
    await ferry.migrate()
    await ferry.settled()
    if (mode !== begin) await ferry.mode(mode)
    const makeRoom = end === 'killed' ? fillUp(store) : undefined
    writeFileSync(ferry.at('later'), pattern(9000, 50))
    writeFileSync(ferry.at('d/old-3'), 'changed', { flag: 'r+' })
    writeFileSync(ferry.at('chunks'), 'at its start', { flag: 'r+' })
    await ferry.run('mv', ferry.at('d/old-4'), ferry.at('moved'))
    await ferry.run('rm', ferry.at('d/old-5'))
    await ferry.run('ln', ferry.at('d/old-6'), ferry.at('second name'))
    await ferry.run('ln', '-s', 'd/old-7', ferry.at('symlink'))
    await ferry.run('touch', '-d', '2020-02-02 02:02:02', ferry.at('d/old-8'))
    const wanted = await seenIn(ferry)
    if (end === 'killed') {
      await ferry.eventually(
        'checksums of all that is staged',
        async () => askCatalog(ferry.stateDir, 'SELECT count(*) AS n FROM staged WHERE sums IS NULL').n === 0,
      )
      await ferry.killBoth()
    } else await ferry.unmount()
    makeRoom?.()
    return wanted
  }

  async function end(): Promise<void> {
    await ferry.killBoth()
  }

  /** What is wrong with what a mount shows after that; and what became of it. */
  async function judge(
    left: LeftBehind,
    one: Flip,
    wanted: Seen,
  ): Promise<{ became: string; wrong: string[] }> {
    const again = [ferry.source, ferry.target, '--state-dir', ferry.stateDir, '--store', `embedded:${store}`]
    left.giveBack(one)
    const mounted = await ferry.tryMount('--store', `embedded:${store}`)
    if (mounted.status !== 0) {
      const wrong: string[] = []
      const lines = mounted.stderr.trim().split('\n')
      if (lines.length > 1 || !/^ferryfs: .{10,}/.test(mounted.stderr))
        wrong.push(`no clear line: ${mounted.stderr}`)
      left.mend(one)
      const mended = await ferry.tryMount('--store', `embedded:${store}`)
      if (mended.status !== 0) wrong.push(`refused, and then for good: ${mended.stderr}, ${again.join(' ')}`)
      else {
        const { differing } = compareSeen(wanted, await seenIn(ferry))
        if (differing.length > 0) wrong.push(`the refusal has cost ${differing.join(', ')}`)
        await end()
      }
      return { became: `refused: ${lines[0]}`, wrong }
    }
    const found = await seenIn(ferry)
    const { differing, other } = compareSeen(wanted, found)
    const { differences } = await ferry.ask({ command: 'verify' })
    const wrong: string[] = []
    if (differing.length > 0 && differences.length === 0)
      wrong.push(
        `with nothing to verify: ${differing.map((path) => `${path} (${found.get(path)})`).join(', ')}`,
      )
    if (other.length > 0 && !differences.some(({ kind }) => kind === 'doubtful'))
      wrong.push(`other than it was, and not in doubt: ${other.join(', ')}`)
    if (differing.length === 0 && differences.length === 0) {
      // What is owed to the store is carried there, and read from there.
      await ferry.unmount()
      await ferry.mount('--store', `embedded:${store}`)
      const later = compareSeen(wanted, await seenIn(ferry)).differing
      if (later.length > 0) wrong.push(`after an unmount: ${later.join(', ')}`)
    }
    await end()
    return { became: differences.length > 0 ? `listed ${differences.length}` : 'unharmed', wrong }
  }

  const cases = [
    ['drain', 'killed'],
    ['prefer-store', 'killed'],
    ['drain', 'unmounted'],
    ['store-only', 'killed'],
  ] as const
  test.each(gateShare(cases))(
    'in %s, %s: a mount shows what was, or says what it cannot',
    async (mode, how) => {
      const seed = flipSeed()
      const wanted = await leave(mode, how)
      const left = new LeftBehind(ferry, store)
      const all: string[] = []
      for (const one of left.flips(new Random(seed), flipRuns(4))) {
        const { became, wrong } = await judge(left, one, wanted)
        if (JOURNAL)
          appendFileSync(JOURNAL, `${mode} ${how} ${left.nameOf(one)}: ${became} ${wrong.join('; ')}\n`)
        all.push(...wrong.map((each) => `${left.nameOf(one)}: ${each}`))
      }
      expect(all, `FERRYFS_SEED=${seed}`).toEqual([])
    },
    7_200_000,
  )
})
