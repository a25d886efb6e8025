import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// In drain, with a file made in each: the catalog has the authority on them, and the volume has what nobody has looked at.
let rig: Rig
afterEach(() => rig.stop())

async function start(...directories: string[]): Promise<Client> {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      for (const name of directories) {
        mkdirSync(join(source, name), { recursive: true })
        writeFileSync(join(source, name, 'unseen'), `unseen of ${name}`)
      }
    },
  })
  const client = new Client(rig)
  for (const name of directories) await client.create(`${name}/made`, `made in ${name}`)
  return client
}

const onSource = (name: string): string => join(rig.source, name)

/** Files by their paths, with the directory that each was in at first. */
async function shown(): Promise<Record<string, string>> {
  const client = new Client(rig)
  // The first look learns what was moved, on the way; the next one shows it.
  await client.tree().catch(() => undefined)
  const found: Record<string, string> = {}
  for (const path of [...(await client.tree()).keys()].map(String))
    if (/(unseen|made)$/.test(path))
      found[path.slice(1)] = (await client.readPath(path.slice(1))).toString().replace(/^.* /, '')
  return found
}

/** Both files of each directory, under its path now. */
const whole = (at: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(at).flatMap(([path, first]) => [
      [`${path}/made`, first],
      [`${path}/unseen`, first],
    ]),
  )

const RESTARTS = [undefined, 'worker', 'mount'] as const
/** What is moved on SOURCE, and where each directory is to be found then. */
const MOVES: ReadonlyArray<{
  readonly what: string
  readonly moves: ReadonlyArray<readonly [from: string, to: string]>
  readonly after: Readonly<Record<string, string>>
}> = [
  { what: 'one moved away', moves: [['a', 't']], after: { t: 'a' } },
  {
    what: 'two exchanged',
    moves: [
      ['a', 't'],
      ['b', 'a'],
      ['t', 'b'],
    ],
    after: { a: 'b', b: 'a' },
  },
  {
    what: 'three in a circle',
    moves: [
      ['a', 't'],
      ['b', 'a'],
      ['c', 'b'],
      ['t', 'c'],
    ],
    after: { a: 'b', b: 'c', c: 'a' },
  },
  { what: 'one moved into another', moves: [['b', 'a/t']], after: { a: 'a', 'a/t': 'b' } },
  {
    what: 'one turned outside in',
    moves: [
      ['a/b', 'b'],
      ['a', 'b/a'],
    ],
    after: { b: 'a/b', 'b/a': 'a' },
  },
  // Which is met first decides: the name that is taken stays with the one that the catalog has there.
  {
    what: 'one in the place of one that went elsewhere',
    moves: [
      ['a', 't'],
      ['b', 'a'],
    ],
    after: { a: 'a', b: 'b' },
  },
]

describe.each(MOVES)('past the overlay: $what', ({ moves, after }) => {
  test.each(RESTARTS)(
    'P1, P5: each directory is there once, with all that is in it (restart: %s)',
    async (restart) => {
      await start(...Object.values(after).sort())
      for (const [from, to] of moves) renameSync(onSource(from), onSource(to))
      if (restart) await rig.restart(restart)
      expect(await shown()).toEqual(whole(after))
      await rig.migrate()
      await rig.settle()
      expect((await rig.verify()).differences).toEqual([])
      await rig.reap()
      await rig.reap()
      expect(readdirSync(rig.source)).toEqual([])
      expect(await shown()).toEqual(whole(after))
      await expectSettled(rig)
    },
  )
})

test.each(RESTARTS)(
  'P2: what was made or written below a directory that nobody changed goes with it (restart: %s)',
  async (restart) => {
    rig = await Rig.start({
      mode: 'drain',
      fill: (source) => {
        mkdirSync(join(source, 'a/b/c'), { recursive: true })
        writeFileSync(join(source, 'a/b/c/file'), 'first')
      },
    })
    const client = new Client(rig)
    await client.create('a/b/new', 'made')
    await client.overwrite('a/b/c/file', 0, 'WRITE')
    client.forgetAll()
    renameSync(onSource('a'), onSource('t'))
    if (restart) await rig.restart(restart)
    // Who looks for the old name first has found it gone.
    await client.exists('a/b')
    await client.tree().catch(() => undefined)
    expect(await client.exists('a')).toBe(false)
    expect(await client.readPath('t/b/new')).toBe('made')
    expect(await client.readPath('t/b/c/file')).toBe('WRITE')
    await rig.migrate()
    await rig.settle()
    expect(await client.readPath('t/b/new')).toBe('made')
    await expectSettled(rig)
  },
)

test('P1: a directory that was renamed in the overlay keeps that name, wherever its legacy one is moved', async () => {
  const client = await start('a', 'b')
  await client.rename('a', 'x')
  renameSync(onSource('a'), onSource('b/t'))
  await rig.restart('mount')
  expect(await shown()).toEqual(whole({ x: 'a', b: 'b' }))
  await rig.migrate()
  await rig.settle()
  expect(await shown()).toEqual(whole({ x: 'a', b: 'b' }))
  await expectSettled(rig)
})

test('P1, P6: one that is moved on SOURCE into what the overlay has in it makes no circle', async () => {
  const client = await start('a', 'b')
  await client.rename('b', 'a/b')
  renameSync(onSource('a'), onSource('b/a'))
  await rig.restart('mount')
  expect(await shown()).toEqual(whole({ a: 'a', 'a/b': 'b' }))
  await rig.migrate()
  await rig.settle()
  await expectSettled(rig)
})

describe('P1: what is put on SOURCE in the place of a drained directory', () => {
  async function drained(): Promise<Client> {
    const client = await start('a')
    await rig.migrate()
    await rig.settle()
    await rig.reap()
    expect(existsSync(onSource('a'))).toBe(false)
    return client
  }

  test.each(RESTARTS)('a directory made anew is taken up (restart: %s)', async (restart) => {
    await drained()
    mkdirSync(onSource('a/deep'), { recursive: true })
    writeFileSync(onSource('a/deep/unseen'), 'unseen of new')
    if (restart) await rig.restart(restart)
    const all = { ...whole({ a: 'a' }), 'a/deep/unseen': 'new' }
    expect(await shown()).toEqual(all)
    await rig.migrate()
    await rig.settle()
    await rig.reap()
    expect(readdirSync(rig.source)).toEqual([])
    expect(await shown()).toEqual(all)
    await expectSettled(rig)
  })

  test('a file is hidden, and that is listed until it is gone from there', async () => {
    const client = await drained()
    writeFileSync(onSource('a'), 'a file')
    await rig.migrate()
    expect(rig.unreadable).toEqual([expect.objectContaining({ path: 'a' })])
    expect((await rig.verify()).differences).toEqual([
      {
        path: '.',
        kind: 'unreadable',
        detail: expect.stringMatching(/^'a' in it: SOURCE has something else/),
      },
    ])
    renameSync(onSource('a'), onSource('b'))
    await rig.migrate()
    expect(rig.unreadable).toEqual([])
    expect((await rig.verify()).differences).toEqual([])
    expect(await client.readPath('b')).toBe('a file')
    expect(await shown()).toEqual(whole({ a: 'a' }))
  })
})
