import {
  chmodSync,
  chownSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { S_IFREG } from '../../../../src/base/attributes.ts'
import { CHUNK_BYTES, encodeXattrs } from '../../../../src/content/index.ts'
import { RestoreStopped, SourceError, selectionOf } from '../../../../src/migration/index.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../../support/restore/plain-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

const WORK = '.ferryfs-restore'
const TiB = 2 ** 40

let root: string
let dest: string
let tree: MemoryTree

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-restore-')))
  dest = join(root, 'dest')
  tree = new MemoryTree({ mode: 0o041775, uid: 70, gid: 71 })
})

afterEach(() => rmSync(root, { recursive: true, force: true }))

const at = (...names: string[]): string => join(dest, ...names)
const chunk = (byte: number): Buffer => Buffer.alloc(CHUNK_BYTES, byte)

/** A bit of everything that a file system has. */
function fill(): void {
  const below = tree.directory({ mode: 0o042750, uid: 1, gid: 2 })
  const linked = tree.regular('one file', { nlink: 3, mode: S_IFREG | 0o4755, uid: 9 })
  tree.put('sub', below)
  tree.put('plain', tree.regular('some bytes'))
  tree.put('empty', tree.regular('', { mode: S_IFREG }))
  tree.put('large', tree.regular(Buffer.concat([chunk(1), chunk(2), Buffer.from('the rest')])))
  tree.put('link', tree.symlink('sub/../plain', { uid: 3, gid: 4 }))
  tree.put('pipe', tree.special({ mode: constants.S_IFIFO | 0o620, uid: 5 }))
  tree.put('null', tree.special({ mode: constants.S_IFCHR | 0o666, rdev: 0x103 }))
  tree.put('first', linked)
  tree.put('second', linked)
  tree.put('third', linked, below)
  tree.put('latin1 \xff', tree.regular('x'), below)
  tree.put('deeper', tree.directory(), below)
}

describe('P1: a DEST that somebody else has prepared', () => {
  test.each(['writing', 'finishing'])(
    'as a restore that is %s is refused, and stays as it is',
    async (phase) => {
      tree.put('file', tree.regular('what is stored'))
      mkdirSync(at(WORK), { recursive: true })
      const state = { format: 1, token: '0123456789abcdef', namespace: 'test', phase }
      writeFileSync(at(WORK, 'state.json'), JSON.stringify(state))
      writeFileSync(at('file'), 'what is stored')
      linkSync(at('file'), join(root, 'outside of DEST'))
      chmodSync(at('file'), 0o600)
      for (const path of [at('file'), at(WORK, 'state.json'), at(WORK), dest]) chownSync(path, 12345, 12345)
      await expect(restoreTo(tree, dest)).rejects.toThrow(/not left by a restore of yours/)
      expect(statSync(join(root, 'outside of DEST'))).toMatchObject({ uid: 12345, mode: S_IFREG | 0o600 })
    },
  )
})

describe('what is written', () => {
  test('P5: everything comes back as it was, and DEST holds nothing else', async () => {
    fill()
    const result = await restoreTo(tree, dest)
    expect(result.findings).toEqual([])
    expect(result).toMatchObject({ missing: 0, lacking: 0, finished: true })
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  test('P5: extended attributes come back, and none that DEST would give by itself', async () => {
    const xattrs = encodeXattrs(
      new Map([
        ['user.a', Buffer.from('1')],
        ['trusted.b', Buffer.alloc(3000, 7)],
      ]),
    )
    tree.put('file', tree.regular('x', xattrs ? { xattrs } : {}))
    tree.put('directory', tree.directory(xattrs ? { xattrs } : {}))
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    // Once more from where it would be kept.
    const { byDescriptor } = await import('../../../../src/sys/index.ts')
    const { closeSync, openSync } = await import('node:fs')
    for (const name of ['file', 'directory']) {
      const descriptor = openSync(at(name), 'r')
      const names = byDescriptor
        .listXattrs(descriptor)
        .map(String)
        .filter((it) => !it.startsWith('security.'))
      expect(names.sort(), name).toEqual(['trusted.b', 'user.a'])
      expect(byDescriptor.getXattr(descriptor, Buffer.from('trusted.b'))).toEqual(Buffer.alloc(3000, 7))
      closeSync(descriptor)
    }
  })

  test('P6: holes stay holes, and cost nothing', async () => {
    tree.put(
      'vm.img',
      tree.sparse(
        8 * TiB,
        new Map([
          [4_000_000, chunk(3)],
          [8_000_001, Buffer.from('x')],
        ]),
      ),
    )
    const sparse = Buffer.alloc(CHUNK_BYTES)
    sparse[500_000] = 1
    tree.put('in a chunk', tree.regular(sparse))
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    expect(statSync(at('vm.img')).blocks).toBeLessThanOrEqual((2 * CHUNK_BYTES) / 512 + 64)
    expect(statSync(at('in a chunk')).blocks).toBeLessThanOrEqual(16)
  })

  test('P6: a tree that is deeper than any path is long, with a hard link from its top to its bottom', async () => {
    const linked = tree.regular('far apart', { nlink: 2 })
    let directory = tree.top
    for (let level = 0; level < 1100; level += 1) {
      const below = tree.directory()
      tree.put(`level ${level}`, below, directory)
      directory = below
    }
    tree.put('bottom', linked, directory)
    tree.put('top', linked)
    for (const run of ['anew', 'once more'])
      expect((await restoreTo(tree, join(root, run))).findings, run).toEqual([])
    expect(describeDirectory(join(root, 'anew'))).toEqual(describeTree(tree))
  })
})

describe('a run that goes on', () => {
  test('P5: what is right is kept, what is not is written again, what is left over goes', async () => {
    fill()
    tree.put('unreadable', 'its object is lost')
    expect((await restoreTo(tree, dest)).finished).toBe(false)
    const before = lstatSync(at('plain')).ino
    writeFileSync(at('large'), Buffer.concat([chunk(1), chunk(9), Buffer.from('the rest')]))
    chmodSync(at('empty'), 0o777)
    rmSync(at('second'))
    writeFileSync(at('second'), 'one file')
    rmSync(at('link'))
    symlinkSync('/etc/passwd', at('link'))
    rmSync(at('sub', 'deeper'), { recursive: true })
    const [token] = /[0-9a-f]{16}/.exec(readFileSync(at(WORK, 'state.json'), 'utf8')) ?? []
    writeFileSync(at('sub', `.ferryfs-${token}-0-7`), 'half of a file')
    tree.top.entries.pop()
    const reads: string[] = []
    tree.onAsk = (op, what) => {
      if (op === 'read') reads.push(what ?? '')
    }
    const result = await restoreTo(tree, dest)
    expect(result.findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    expect(lstatSync(at('plain')).ino).toBe(before)
    // Of what is known by its hash nothing is fetched; the large file's second chunk is not.
    expect(reads.length).toBeLessThanOrEqual(5)
  })

  test('P5: a file that is in DEST and not in the tree is told of, and stays', async () => {
    fill()
    tree.put('unreadable', 'its object is lost')
    await restoreTo(tree, dest)
    writeFileSync(at('sub', 'mine'), 'not yours')
    const { findings } = await restoreTo(tree, dest)
    expect(findings.map(({ path, reason }) => `${path}: ${reason}`).sort()).toEqual([
      'sub/mine: it is in DEST and not in the tree; remove it in DEST, and run the same command again',
      'unreadable: its object is lost',
    ])
    expect(readFileSync(at('sub', 'mine'), 'utf8')).toBe('not yours')
  })

  test('P5: a directory that became a file, or one of its names, stays while something is in it, and what to do is said', async () => {
    for (const name of ['single', 'linked', 'empty']) {
      const directory = tree.directory()
      tree.put(name, directory)
      if (name !== 'empty') tree.put('inside', tree.regular('old'), directory)
    }
    tree.put('late', 'it cannot be had')
    await restoreTo(tree, dest)
    tree.top.entries.splice(0)
    const linked = tree.regular('new', { nlink: 2 })
    tree.put('first', linked)
    tree.put('linked', linked)
    for (const name of ['single', 'empty']) tree.put(name, tree.regular('new'))
    const { findings, finished } = await restoreTo(tree, dest)
    expect(finished).toBe(false)
    const why =
      'in DEST it is a directory that is not empty, and in the tree none; remove it in DEST, and run the same command again'
    expect(findings.map(({ kind, path, reason }) => `${kind} ${path}: ${reason}`).sort()).toEqual([
      `missing linked: ${why}`,
      `missing single: ${why}`,
    ])
    expect(readFileSync(at('single', 'inside'), 'utf8')).toBe('old')
    for (const name of ['single', 'linked']) rmSync(at(name), { recursive: true })
    expect(await restoreTo(tree, dest)).toMatchObject({ findings: [], finished: true })
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  test('P1: two files that were one in an earlier run become two', async () => {
    const one = tree.regular('same', { nlink: 2 })
    tree.put('a', one)
    tree.put('b', one)
    tree.put('bad', 'lost')
    await restoreTo(tree, dest)
    expect(statSync(at('a')).ino).toBe(statSync(at('b')).ino)
    tree.top.entries.splice(0, 3)
    tree.put('a', tree.regular('same', { nlink: 2 }))
    const other = tree.regular('same', { nlink: 2 })
    tree.put('b', other)
    tree.put('c', other)
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    expect(statSync(at('a')).ino).not.toBe(statSync(at('b')).ino)
    expect(statSync(at('c')).ino).toBe(statSync(at('b')).ino)
  })

  test('P5: of what is missing no bytes count as restored', async () => {
    tree.put('whole', tree.regular('ten bytes.'))
    const bad = tree.regular(chunk(5))
    tree.put('bad', bad)
    tree.onAsk = (op, stamp) => {
      if (op === 'read' && stamp === bad.file.stamp) throw new SourceError('other', 'the object is lost')
    }
    expect(await restoreTo(tree, dest)).toMatchObject({ files: 1, bytes: 10, missing: 1 })
  })

  test('P5: with --accept-missing DEST opens though something is missing', async () => {
    fill()
    tree.put('unreadable', 'its object is lost')
    const result = await restoreTo(tree, dest, { acceptMissing: true })
    expect(result).toMatchObject({ missing: 1, finished: true })
    expect(existsSync(at(WORK))).toBe(false)
    expect(statSync(dest).mode & 0o7777).toBe(0o1775)
  })

  test('P5: a tree with a name like that of the working directory comes back with it', async () => {
    const taken = tree.directory()
    tree.put(WORK, taken)
    tree.put('state.json', tree.regular('{}'), taken)
    tree.put('lost+found', tree.directory({ mode: 0o040700 }))
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    await expect(restoreTo(tree, dest)).rejects.toThrow(/is not empty and holds no restore that is under way/)
  })
})

describe('a part of the tree', () => {
  const part = (...paths: string[]) =>
    selectionOf(paths.map((path) => path.split('/').map((name) => Buffer.from(name, 'latin1'))))

  test('P5: the files asked for, with the directories on the way as they are', async () => {
    fill()
    const result = await restoreTo(tree, dest, { selection: part('sub/third', 'plain', 'nowhere/at/all') })
    expect(result.findings.map(({ path, reason }) => `${path}: ${reason}`)).toEqual([
      'nowhere: it is not in the tree',
    ])
    expect(readdirSync(at('sub'))).toEqual(['third'])
    const rest = await restoreTo(tree, dest, { selection: part('sub/deeper') })
    expect(rest).toMatchObject({ missing: 0, finished: true })
    expect(readdirSync(dest).sort()).toEqual(['plain', 'sub'])
    expect(readdirSync(at('sub')).sort()).toEqual(['deeper', 'third'])
    expect(statSync(at('sub')).mode & 0o7777).toBe(0o2750)
  })
})

describe('P1: nothing is made up', () => {
  test('what the source does not give is not there, not half and not as zeros; the rest is', async () => {
    fill()
    let first = true
    tree.onAsk = (op, stamp) => {
      if (
        op !== 'read' ||
        stamp !== tree.top.entries.find(([name]) => name.equals(Buffer.from('large')))?.[1]
      )
        return
    }
    const large = tree.top.entries.find(([name]) => String(name) === 'large')?.[1]
    if (typeof large !== 'object') throw new Error('no such file')
    tree.onAsk = (op, stamp) => {
      if (op !== 'read' || stamp !== large.file.stamp) return
      if (first) first = false
      else throw new SourceError('other', 'the object is lost')
    }
    const { findings, finished } = await restoreTo(tree, dest)
    expect(findings).toEqual([{ path: 'large', kind: 'missing', reason: 'the object is lost' }])
    expect(finished).toBe(false)
    expect(existsSync(at('large'))).toBe(false)
    expect(readdirSync(dest).sort()).toEqual(
      [WORK, 'sub', 'plain', 'empty', 'link', 'pipe', 'null', 'first', 'second'].sort(),
    )
    // Still closed.
    expect(statSync(dest).mode & 0o7777).toBe(0o700)
  })

  test('a file that changes while it is read is read again, and given up when that does not end', async () => {
    fill()
    const large = tree.top.entries.find(([name]) => String(name) === 'large')?.[1]
    if (typeof large !== 'object') throw new Error('no such file')
    let changes = 0
    const change = (limit: number) => (op: string, stamp?: string) => {
      if (op !== 'read' || stamp !== large.file.stamp || changes >= limit) return
      changes += 1
      large.file = { ...large.file, stamp: `${large.ref.ino}.${changes}` }
      large.chunks.set(1, chunk(100 + changes))
    }
    tree.onAsk = change(1)
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    tree.onAsk = change(1000)
    const { findings } = await restoreTo(tree, join(root, 'never'))
    expect(findings).toEqual([{ path: 'large', kind: 'missing', reason: 'it was changed while it was read' }])
  })

  test('a directory that changes while it is written out is told of', async () => {
    fill()
    let asked = 0
    tree.onAsk = (op) => {
      if (op !== 'list' || (asked += 1) !== 1) return
      tree.top.file = { ...tree.top.file, stamp: 'other' }
    }
    const { findings } = await restoreTo(tree, dest)
    expect(findings).toEqual([
      { path: '.', kind: 'missing', reason: 'it was changed while it was written out; restore again' },
    ])
  })

  test('a store that is away stops the run, which then goes on', async () => {
    fill()
    let isAway = false
    tree.onAsk = (op, stamp) => {
      if (op === 'read' && stamp === tree.top.file.stamp) return
      if (op === 'read') isAway = true
      if (isAway) throw new SourceError('away', 'no node answers')
    }
    const failure = await restoreTo(tree, dest).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(RestoreStopped)
    expect(failure).toMatchObject({ exitStatus: 4, message: expect.stringContaining('no node answers') })
    tree.onAsk = () => undefined
    expect((await restoreTo(tree, dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })
})

describe('names and numbers that no file has', () => {
  test('P1: each is a line of the report, and nothing is written outside of DEST', async () => {
    const bad = ['', '.', '..', 'a/b', '../out', 'a\0b', 'x'.repeat(300)]
    for (const name of bad) tree.put(name, tree.regular('bad'))
    tree.put('../directory', tree.directory())
    tree.put('good', tree.regular('good'))
    tree.put('no type', tree.special({ mode: 0o070644 }))
    tree.put('huge', tree.regular('x', { size: 2 ** 62 }))
    tree.put('negative', tree.regular('x', { size: -5 }))
    tree.put('no target', tree.symlink(''))
    tree.put('NUL in target', tree.symlink('a\0b'))
    tree.put('device', tree.special({ mode: constants.S_IFBLK | 0o600, rdev: -1 }))
    tree.put('owner', tree.regular('x', { uid: 2 ** 32, gid: -1 }))
    tree.put('times', tree.regular('x', { mtimeNs: 10n ** 30n }))
    tree.put('xattrs', tree.regular('x', { xattrs: Buffer.from([9, 9, 9]) }))
    const { findings } = await restoreTo(tree, dest)
    expect(findings.filter(({ kind }) => kind === 'missing')).toHaveLength(bad.length + 7)
    expect(
      findings
        .filter(({ kind }) => kind === 'lacking')
        .map(({ path }) => path)
        .sort(),
    ).toEqual(['owner', 'times', 'xattrs'])
    expect(readdirSync(dest).sort()).toEqual([WORK, 'good', 'owner', 'times', 'xattrs'])
    expect(readdirSync(root)).toEqual(['dest'])
    // An owner that is none must not become root's by being cut to fit.
    expect(findings.find(({ path }) => path === 'owner')?.reason).toContain('4294967296:-1 is none')
  })
})

describe('P1: nobody reaches into DEST until it is done', () => {
  test('it is closed to others from before the first file to the end', async () => {
    fill()
    mkdirSync(dest, { mode: 0o777 })
    chmodSync(dest, 0o777)
    const modes = new Set<string>()
    tree.onAsk = (op) => {
      if (op === 'read' || op === 'list')
        modes.add(`${(statSync(dest).mode & 0o7777).toString(8)} ${statSync(dest).uid}`)
    }
    await restoreTo(tree, dest)
    expect([...modes]).toEqual(['700 0'])
    expect(statSync(dest)).toMatchObject({ uid: 70, gid: 71 })
  })

  test('a symlink in the place of a directory or file is not followed', async () => {
    const below = tree.directory()
    tree.put('directory', below)
    for (let n = 0; n < 20; n += 1) tree.put(`file ${n}`, tree.regular(`${n}`, { uid: 12_345 }), below)
    const victim = join(root, 'victim')
    mkdirSync(victim)
    writeFileSync(join(victim, 'file 19'), 'of somebody else', { mode: 0o600 })
    let isSwapped = false
    tree.onAsk = (op) => {
      if (op !== 'read' || isSwapped) return
      isSwapped = true
      renameSync(at('directory'), at('moved'))
      symlinkSync(victim, at('directory'))
    }
    const { findings } = await restoreTo(tree, dest)
    expect(findings.length).toBeGreaterThan(0)
    expect(readFileSync(join(victim, 'file 19'), 'utf8')).toBe('of somebody else')
    expect(statSync(join(victim, 'file 19'))).toMatchObject({ uid: 0, mode: S_IFREG | 0o600 })
    expect(readdirSync(victim)).toEqual(['file 19'])
    tree.onAsk = () => undefined
    // The next run puts the directory in the place of the symlink.
    const { findings: left } = await restoreTo(tree, dest)
    expect(left.map(({ path }) => path)).toEqual(['moved'])
    expect(lstatSync(at('directory')).isDirectory()).toBe(true)
    expect(readdirSync(victim)).toEqual(['file 19'])
  })
})

describe('a destination that is refused is left as it is', () => {
  test('one that is not empty', async () => {
    mkdirSync(dest, { mode: 0o755 })
    writeFileSync(at('mine'), '')
    await expect(restoreTo(tree, dest)).rejects.toThrow(/is not empty and holds no restore that is under way/)
    expect(statSync(dest).mode & 0o7777).toBe(0o755)
    expect(readdirSync(dest)).toEqual(['mine'])
  })

  test('one with a restore of another namespace, and one that another restore is writing to', async () => {
    fill()
    tree.put('unreadable', 'lost')
    await restoreTo(tree, dest)
    await expect(restoreTo(tree, dest, { namespace: 'other' })).rejects.toThrow(
      'in DEST a restore of namespace test is under way, not of other',
    )
    let second: unknown
    tree.onAsk = async (op) => {
      if (op !== 'read') return
      tree.onAsk = () => undefined
      second = await restoreTo(tree, dest).catch((error: unknown) => error)
    }
    await restoreTo(tree, dest)
    expect(String(second)).toContain('another restore writes to DEST')
  })

  test('a file, a symlink, /proc', async () => {
    writeFileSync(dest, '')
    await expect(restoreTo(tree, dest)).rejects.toThrow(/cannot be used/)
    symlinkSync('/tmp', join(root, 'link'))
    await expect(restoreTo(tree, join(root, 'link'))).rejects.toThrow(/cannot be used/)
    await expect(restoreTo(tree, join(root, 'link', 'below'))).rejects.toThrow(/cannot be used/)
    await expect(restoreTo(tree, `/proc/${process.pid}/task`)).rejects.toThrow(
      /a file system of the kernel itself/,
    )
  })
})
