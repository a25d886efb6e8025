import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { S_IFDIR } from '../../../../src/base/attributes.ts'
import { UsageError } from '../../../../src/base/errors.ts'
import { mountTable } from '../../../../src/fuse/kernel/mountinfo.ts'
import { RestoreStopped } from '../../../../src/migration/index.ts'
import { Adversary } from '../../../support/restore/adversary.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../../support/restore/plain-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

const USER = 12345
const SECRET = 'what is nobody else’s business'
const NAMES = ['a', 'b', 'c', 'sub', 'deep'] as const
const RUNS = Number(process.env.FERRYFS_RUNS ?? 4)
const SEED = Number(process.env.FERRYFS_SEED ?? Date.now() % 1_000_000)

let root: string
let home: string
let victim: string

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-hostile-')))
  chmodSync(root, 0o755)
  home = join(root, 'home')
  victim = join(root, 'victim')
  mkdirSync(home)
  mkdirSync(join(victim, 'sub'), { recursive: true, mode: 0o700 })
  for (const name of ['a', 'b', 'c', 'sub/a', 'sub/b'])
    writeFileSync(join(victim, name), SECRET, { mode: 0o600 })
})

afterEach(() => {
  unmountAll()
  rmSync(root, { recursive: true, force: true })
})

function unmountAll(): void {
  const below = mountTable().filter(({ mountPoint }) => mountPoint.startsWith(`${root}/`))
  for (const { mountPoint } of below.reverse()) execFileSync('umount', ['-l', mountPoint])
}

/** All but the times of access, which looking at it moves. */
const withoutAtimes = (described: ReturnType<typeof describeTree>): unknown =>
  Object.fromEntries(Object.entries(described).map(([path, { atimeNs: _, ...rest }]) => [path, rest]))

/** What must be as it was. */
const look = (directory: string): unknown => withoutAtimes(describeDirectory(directory))

/** Names that the adversary knows; what there is of them twice was one file. */
function madeTree(attributes: ConstructorParameters<typeof MemoryTree>[0]): MemoryTree {
  const tree = new MemoryTree({ mode: S_IFDIR | 0o700, ...attributes })
  const sub = tree.directory({ mode: S_IFDIR | 0o750, uid: USER })
  const deep = tree.directory({ mode: S_IFDIR | 0o777 })
  const linked = tree.regular('one file of three names', { nlink: 3, uid: 7 })
  for (const directory of [tree.top, sub, deep]) {
    for (const name of ['a', 'b']) tree.put(name, tree.regular(`a file ${name}`, { uid: 5 }), directory)
    tree.put('c', linked, directory)
  }
  tree.put('sub', sub)
  tree.put('deep', deep, sub)
  return tree
}

/** All regular files in a directory, of any owner, that are not the victim's own under another name. */
function textsBelow(directory: string, found: string[] = []): string[] {
  const own = new Set(
    readdirSync(victim, { recursive: true }).map((name) => lstatSync(join(victim, String(name))).ino),
  )
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) textsBelow(path, found)
    else if (entry.isFile() && !own.has(lstatSync(path).ino)) found.push(readFileSync(path, 'utf8'))
  }
  return found
}

/** How a run ended: an error for the operator, or a result. */
async function outcome(run: ReturnType<typeof restoreTo>): Promise<Awaited<typeof run> | undefined> {
  try {
    return await run
  } catch (error) {
    if (error instanceof UsageError || error instanceof RestoreStopped) return undefined
    throw error
  }
}

const reason = process.getuid?.() === 0 ? undefined : 'needs root'

describe.skipIf(reason !== undefined).each(Array.from({ length: RUNS }, (_, nth) => SEED + nth))(
  'seed %i',
  (seed) => {
    test('P1 P5: a user who owns what DEST is in reaches nothing, whatever he swaps there; done means equal', async () => {
      chownSync(home, USER, USER)
      const before = look(victim)
      const playground = { seed, home, dest: 'back', victim, names: NAMES, asRoot: false }
      const adversary = await Adversary.start(playground, USER)
      const trees: MemoryTree[] = []
      try {
        for (let run = 0; run < 6; run += 1) {
          const tree = madeTree({ uid: 0, gid: 0, mtimeNs: BigInt(run) })
          const result = await outcome(restoreTo(tree, join(home, 'back')))
          if (result?.finished && result.findings.length === 0) trees.push(tree)
        }
      } finally {
        await adversary.stop()
      }
      expect(look(victim)).toEqual(before)
      const made = readdirSync(home).map((name) => join(home, name))
      // Only he could have moved one out of reach, and by rename(2) alone: each is there, as it was written.
      const ours = made.filter((path) => lstatSync(path).isDirectory() && lstatSync(path).uid === 0).map(look)
      for (const tree of trees) expect(ours).toContainEqual(withoutAtimes(describeTree(tree)))
      for (const path of made)
        if (lstatSync(path).isDirectory()) expect(textsBelow(path)).not.toContain(SECRET)
    })

    test('P1 P5: a process that swaps what is in DEST, for links and mounts too, leads nothing out of it', async () => {
      const dest = join(home, 'back')
      const tree = madeTree({})
      tree.put('late', 'it cannot be had yet')
      const before = look(victim)
      await restoreTo(tree, dest)
      const adversary = await Adversary.start({
        seed,
        home,
        dest: 'back',
        victim,
        names: NAMES,
        asRoot: true,
      })
      try {
        for (let run = 0; run < 4; run += 1) {
          const result = await outcome(restoreTo(tree, dest))
          expect(result?.finished ?? false).toBe(false)
        }
      } finally {
        await adversary.stop()
      }
      unmountAll()
      expect(look(victim)).toEqual(before)
      expect(textsBelow(dest)).not.toContain(SECRET)
      // In peace the same command ends it, or says what is in the way.
      tree.top.entries.pop()
      const result = await restoreTo(tree, dest)
      for (const { reason: why } of result.findings)
        expect(why).toMatch(/in DEST and not in the tree|directory that is not empty/)
      if (result.findings.length === 0) expect(describeDirectory(dest)).toEqual(describeTree(tree))
    })
  },
)

test.skipIf(reason !== undefined)('P1: what is mounted in DEST is not written to, and said', async () => {
  const dest = join(home, 'back')
  const tree = madeTree({})
  tree.put('late', 'it cannot be had yet')
  await restoreTo(tree, dest)
  for (const name of ['a', 'b', 'c']) writeFileSync(join(victim, 'sub', name), `a file ${name}`)
  writeFileSync(join(victim, 'a'), 'a file a')
  linkSync(join(victim, 'c'), join(victim, 'second name of c'))
  execFileSync('mount', ['--bind', join(victim, 'sub'), join(dest, 'sub')])
  execFileSync('mount', ['--bind', join(victim, 'a'), join(dest, 'a')])
  const before = look(victim)
  const { findings } = await restoreTo(tree, dest)
  expect(look(victim)).toEqual(before)
  const said = findings.filter(({ reason: why }) => why.includes('another file system is mounted there'))
  expect(said.map(({ path }) => path).sort()).toEqual(['a', 'sub'])
})
