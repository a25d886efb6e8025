import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { RENAME_EXCHANGE, RENAME_NOREPLACE } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { contentOf } from '../../support/rig/state-copy.ts'

// The kernel refuses what would put a directory below itself by what it has looked up, which may be older than what the overlay shows.

let rig: Rig

afterEach(() => rig.stop())

describe.each(['mirror', 'drain', 'store-only'] as const)('in %s', (mode) => {
  test('P1, P2: a directory is not moved below itself, and all that is in it stays', async () => {
    rig = await Rig.start({ mode, fill: (source) => mkdirSync(join(source, 'a/b/c'), { recursive: true }) })
    const client = new Client(rig)
    await client.mkdir('new')
    await client.mkdir('new/below')
    await client.create('a/b/f', 'f')
    const before = await contentOf(client)
    const rename = async (from: string, to: string, flags = 0): Promise<unknown> => {
      const source = await client.place(from)
      const target = await client.place(to)
      return rig
        .perform((overlay, request) =>
          overlay.rename(request, source.parent, source.name, target.parent, target.name, flags),
        )
        .then(
          () => 'done',
          (error: unknown) => (error as { code?: string }).code,
        )
    }
    for (const [from, to] of [
      ['a', 'a/x'],
      ['a', 'a/b/x'],
      ['a', 'a/b/c'],
      ['a', 'a/b'],
      ['a/b', 'a/b/c/x'],
      ['new', 'new/below/x'],
      ['new', 'new/below'],
    ] as const)
      expect([from, to, await rename(from, to)]).toEqual([from, to, 'EINVAL'])
    expect(await rename('a/b', 'a')).toBe('ENOTEMPTY')
    expect(await rename('a', 'a/b', RENAME_NOREPLACE)).toBe('EEXIST')
    for (const [from, to] of [
      ['a', 'a/b'],
      ['a/b/c', 'a'],
      ['new/below', 'new'],
    ] as const)
      expect([from, to, await rename(from, to, RENAME_EXCHANGE)]).toEqual([from, to, 'EINVAL'])
    expect(await contentOf(client)).toEqual(before)
    expect(await rename('a/b', 'new/below/b')).toBe('done')
    expect(await rename('new/below', 'a', RENAME_EXCHANGE)).toBe('done')
    await rig.settle()
    await rig.restart('mount')
    expect(await contentOf(client)).toEqual({
      a: '/',
      'a/b': '/',
      'a/b/c': '/',
      'a/b/f': 'f',
      new: '/',
      'new/below': '/',
    })
  })
})
