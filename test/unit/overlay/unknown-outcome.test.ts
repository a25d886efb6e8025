import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Answer, RequestContext } from '../../../src/fuse/operations.ts'
import type { Overlay } from '../../../src/overlay/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// A worker was killed between an operation's intent and what follows its effect, and now the volume does not say whether it took
// place. The next worker once waited for the volume, with all that it could have served from the store. Had the volume begun to
// fail a moment later, the operation would have been taken for one that never was, and the repeated request been answered so.

let rig: Rig
let client: Client

const B = (text: string): Buffer => Buffer.from(text)
const EIO = { code: 'EIO' }

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'prefer-store',
    fill: (source) => {
      writeFileSync(join(source, 'a'), 'alpha')
      writeFileSync(join(source, 'b'), 'beta')
      mkdirSync(join(source, 'dir'))
      writeFileSync(join(source, 'dir/c'), 'gamma')
    },
  })
  await rig.migrate()
  client = new Client(rig)
})

afterEach(() => rig.stop())

const away = (): string => `${rig.source}-away`
const begone = (): void => renameSync(rig.source, away())

async function comesBack(): Promise<void> {
  renameSync(away(), rig.source)
  await rig.healVolume()
}

type Operation = (overlay: Overlay, request: RequestContext) => Answer<unknown>

interface Case {
  readonly what: string
  readonly operation: () => Promise<Operation>
  /** Names that it may have changed. */
  readonly names: readonly string[]
  readonly before: string
  readonly after: string
}

const CASES: readonly Case[] = [
  {
    what: 'create',
    operation: async () => (overlay, request) => overlay.create(request, 1n, B('new'), 0o644, 2),
    names: ['new'],
    before: 'a b dir',
    after: 'a b dir new',
  },
  {
    what: 'unlink',
    operation: async () => (overlay, request) => overlay.unlink(request, 1n, B('a')),
    names: ['a'],
    before: 'a b dir',
    after: 'b dir',
  },
  {
    what: 'rename',
    operation: async () => (overlay, request) => overlay.rename(request, 1n, B('a'), 1n, B('b'), 0),
    names: ['a', 'b'],
    before: 'a b dir',
    after: 'b dir',
  },
  {
    what: 'link',
    operation: async () => {
      const node = await client.node('a')
      return (overlay, request) => overlay.link(request, node, 1n, B('second'))
    },
    names: ['second'],
    before: 'a b dir',
    after: 'a b dir second',
  },
]

const shown = async (): Promise<string> => (await client.list(1n)).map(String).sort().join(' ')

describe.each(CASES)('a $what cut short, of which the volume does not say how it ended', (given) => {
  test.each([
    { point: 'intended', took: false },
    { point: 'effect', took: true },
  ])(
    'P1 P6: after $point its names answer EIO, all else is served, and then it ends as it did',
    async ({ point, took }) => {
      const operation = await given.operation()
      const unique = await rig.cutShort(`overlay.${given.what}.${point}`, operation)
      begone()
      for (let kill = 0; kill < 2; kill += 1) {
        await rig.restart('worker')
        await expect(rig.perform(operation, {}, unique)).rejects.toMatchObject(EIO)
        for (const name of given.names) await expect(client.lookup(name)).rejects.toMatchObject(EIO)
        await expect(client.list(1n)).rejects.toMatchObject(EIO)
        expect(await client.readPath('dir/c')).toBe('gamma')
      }
      await comesBack()
      expect(await shown()).toBe(took ? given.after : given.before)
      // Of a file without a name the kernel may still know, until there is a new mount.
      await rig.restart('mount')
      await expectSettled(rig)
    },
  )
})

test('P2: an open file of which nobody knows whether it was removed is kept for whoever has it open', async () => {
  const node = await client.node('a')
  const handle = await client.open(node)
  await client.overwrite('a', 0, 'ALPHA')
  await rig.cutShort('overlay.unlink.effect', (overlay, request) => overlay.unlink(request, 1n, B('a')))
  begone()
  await rig.restart('worker')
  await comesBack()
  expect(await shown()).toBe('b dir')
  expect((await client.read(node)).toString()).toBe('ALPHA')
  await client.close(node, handle)
})
