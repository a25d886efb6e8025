import { constants, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { S_IFDIR, S_IFREG } from '../../../../src/base/attributes.ts'
import { CHUNK_BYTES } from '../../../../src/content/index.ts'
import { type MemoryFile, MemoryTree } from '../../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../../support/restore/plain-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

let root: string

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-random-')))
})

afterEach(() => rmSync(root, { recursive: true, force: true }))

const name = fc
  .uint8Array({ minLength: 1, maxLength: 40 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x20 : byte))))
  .filter((bytes) => !['.', '..'].includes(bytes.toString('latin1')))

const attributes = fc.record({
  permissions: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.nat(70_000),
  gid: fc.nat(70_000),
  mtimeNs: fc.bigInt({ min: -(2n ** 60n), max: 2n ** 62n }),
  atimeNs: fc.bigInt({ min: 0n, max: 2n ** 62n }),
})

/** Chunks with data by index; the size says how far the holes go. */
const content = fc.record({
  size: fc.oneof(fc.nat(3), fc.nat(9000), fc.nat(3 * CHUNK_BYTES), fc.nat(2 ** 41)),
  fill: fc.array(
    fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), byte: fc.integer({ min: 1, max: 255 }) }),
    {
      maxLength: 3,
    },
  ),
})

const entry = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('regular' as const), content, attributes }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('directory' as const), attributes }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('symlink' as const), target: name, attributes }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pipe' as const), attributes }) },
  // Another name of a file that is there already.
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('link' as const), of: fc.nat() }) },
)

const trees = fc.array(fc.record({ name, entry, into: fc.nat() }), { maxLength: 25 })
type Plan = typeof trees extends fc.Arbitrary<infer T> ? T : never

function made(plan: Plan): MemoryTree {
  const tree = new MemoryTree({ mode: S_IFDIR | 0o755 })
  tree.pageEntries = 4
  const directories: MemoryFile[] = [tree.top]
  const files: MemoryFile[] = []
  for (const { name, entry, into } of plan) {
    const directory = directories[into % directories.length] ?? tree.top
    if (directory.entries.some(([known]) => known.equals(name))) continue
    tree.put(name, fileOf(tree, entry, directories, files), directory)
  }
  return tree
}

function fileOf(
  tree: MemoryTree,
  entry: Plan[number]['entry'],
  directories: MemoryFile[],
  files: MemoryFile[],
): MemoryFile {
  if (entry.kind === 'link') {
    const known = files[entry.of % Math.max(1, files.length)]
    if (!known) return tree.regular('')
    known.file = {
      ...known.file,
      attributes: { ...known.file.attributes, nlink: known.file.attributes.nlink + 1 },
    }
    return known
  }
  const { permissions, ...others } = entry.attributes
  if (entry.kind === 'directory') {
    const made = tree.directory({ ...others, mode: S_IFDIR | permissions })
    directories.push(made)
    return made
  }
  const file =
    entry.kind === 'symlink'
      ? tree.symlink(entry.target, others)
      : entry.kind === 'pipe'
        ? tree.special({ ...others, mode: constants.S_IFIFO | permissions })
        : sparse(tree, entry.content, { ...others, mode: S_IFREG | permissions })
  files.push(file)
  return file
}

function sparse(
  tree: MemoryTree,
  { size, fill }: typeof content extends fc.Arbitrary<infer T> ? T : never,
  attributes: object,
) {
  const file = tree.sparse(size, new Map(), attributes)
  for (const { at, byte } of fill) {
    const index = Math.floor((at * Math.max(0, size - 1)) / CHUNK_BYTES)
    const length = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES)
    if (length <= 0) continue
    const bytes = Buffer.alloc(length)
    bytes.fill(byte, Math.floor(length / 3), Math.min(length, Math.ceil(length / 2) + 1))
    file.chunks.set(index, bytes)
  }
  return file
}

test('P5: any tree comes back as it was, also when the run is cut short anywhere, again and again', async () => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(trees, fc.array(fc.nat(40), { maxLength: 3 }), async (plan, cuts) => {
      const tree = made(plan)
      run += 1
      const dest = join(root, `dest ${run}`)
      let isOver = false
      for (const cut of cuts) {
        let asked = 0
        const stop = new AbortController()
        tree.onAsk = () => {
          asked += 1
          if (asked === cut) stop.abort(new Error('cut short'))
        }
        const ended = await restoreTo(tree, dest, { signal: stop.signal }).catch((error: unknown) =>
          String(error),
        )
        isOver = typeof ended !== 'string'
        if (isOver) break
        expect(ended).toContain('cut short')
      }
      tree.onAsk = () => undefined
      if (!isOver) expect((await restoreTo(tree, dest)).findings).toEqual([])
      expect(describeDirectory(dest)).toEqual(describeTree(tree))
      rmSync(dest, { recursive: true, force: true })
    }),
    { numRuns: 40 },
  )
})
