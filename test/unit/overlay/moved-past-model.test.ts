import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// FERRYFS_SEED=… FERRYFS_RUNS=… brings a run back, or makes more of them.
const seed = process.env.FERRYFS_SEED
const RUNS = Number(process.env.FERRYFS_RUNS ?? 25)
const TREE = ['a', 'a/b', 'a/b/c', 'd', 'd/e', 'f']
const UNSEEN = 'unseen'

interface Move {
  readonly at: number
  readonly into: number
  readonly name: string
}

type Step =
  | { readonly do: 'made' | 'listed'; readonly at: number }
  | ({ readonly do: 'moved past' } & Move)
  | ({ readonly do: 'renamed' } & Move)
  | { readonly do: 'reaped' | 'migrated' | 'looked' | 'worker' | 'mount' }

const number = fc.nat(30)
const move = { at: number, into: number, name: fc.constantFrom('a', 'b', 'd', 'f', 'x', 'y') }
const STEP: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('made', 'listed'), at: number }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('moved past'), ...move }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('renamed'), ...move }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('reaped', 'migrated', 'looked', 'worker', 'mount') }),
  },
)

/** Directories on SOURCE, or in the overlay, by their paths; the root is ''. */
function directoriesOn(source: string): string[] {
  const found = readdirSync(source, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ parentPath, name }) => join(parentPath, name).slice(source.length + 1))
  return ['', ...found.sort()]
}

async function shown(rig: Rig): Promise<{ directories: string[]; files: string[] }> {
  const tree = [...(await new Client(rig).tree())].map(([path, entry]) => ({
    path: String(path).slice(1),
    entry,
  }))
  const isFile = (path: string): boolean => /(^|\/)(unseen|made)[^/]*$/.test(path)
  return {
    directories: [
      '',
      ...tree
        .map(({ path }) => path)
        .filter((path) => path !== '' && !isFile(path))
        .sort(),
    ],
    files: tree.map(({ path }) => path).filter(isFile),
  }
}

/** What was moved past the overlay is learned by a look at it; what that has in it, by the next. */
async function look(client: Client): Promise<void> {
  for (let nth = 0; nth < 3; nth += 1) await client.tree().catch(() => undefined)
}

const pick = (all: readonly string[], at: number): string => all[at % all.length] ?? ''
const isWithin = (path: string, other: string): boolean => `${path}/`.startsWith(`${other}/`)

class World {
  readonly rig: Rig
  /** What each file has to say, which no other file says. */
  readonly files = new Set<string>(TREE.map((path) => `unseen of ${path}`))
  #made = 0

  constructor(rig: Rig) {
    this.rig = rig
  }

  async run(step: Step): Promise<void> {
    const { rig } = this
    const client = new Client(rig)
    if (step.do === 'reaped') return rig.reap()
    if (step.do === 'worker' || step.do === 'mount') return rig.restart(step.do)
    if (step.do === 'moved past') return this.#movePast(step)
    if (step.do === 'migrated') await rig.migrate()
    await look(client)
    const { directories } = await shown(rig)
    if (step.do === 'renamed') await this.#rename(client, directories, step)
    if (step.do === 'made') await this.#make(client, pick(directories, step.at))
    if (step.do === 'listed') await client.list(await client.node(pick(directories, step.at)))
  }

  async #make(client: Client, directory: string): Promise<void> {
    this.#made += 1
    const content = `made ${this.#made}`
    await client.create(join(directory, `made-${this.#made}`), content)
    this.files.add(content)
  }

  #movePast({ at, into, name }: Move): void {
    const { source } = this.rig
    const all = directoriesOn(source)
    const [from, parent] = [pick(all, at), pick(all, into)]
    const to = join(parent, name)
    if (from === '' || isWithin(parent, from) || existsSync(join(source, to))) return
    renameSync(join(source, from), join(source, to))
  }

  async #rename(client: Client, all: readonly string[], { at, into, name }: Move): Promise<void> {
    const [from, parent] = [pick(all, at), pick(all, into)]
    const to = join(parent, name)
    if (from === '' || isWithin(parent, from) || all.includes(to)) return
    await client.rename(from, to)
  }

  /** Every file is there once, with what it had, wherever it is. */
  async expectWhole(): Promise<void> {
    const client = new Client(this.rig)
    await look(client)
    const found: string[] = []
    for (const path of (await shown(this.rig)).files) found.push(String(await client.readPath(path)))
    expect(found.sort()).toEqual([...this.files].sort())
  }
}

test('P1, P5: directories moved on SOURCE and in the overlay, in any order, are each there once, with all that is in them', async () => {
  const property = fc.asyncProperty(fc.array(STEP, { minLength: 3, maxLength: 14 }), async (steps) => {
    const rig = await Rig.start({
      mode: 'drain',
      fill: (source) => {
        for (const path of TREE) {
          mkdirSync(join(source, path), { recursive: true })
          writeFileSync(join(source, path, UNSEEN), `unseen of ${path}`)
        }
      },
    })
    try {
      const world = new World(rig)
      for (const step of steps) await world.run(step)
      await world.expectWhole()
      await rig.migrate()
      await rig.migrate()
      await rig.settle()
      expect(rig.unreadable).toEqual([])
      expect((await rig.verify()).differences).toEqual([])
      for (let sweep = 0; sweep < 3; sweep += 1) await rig.reap()
      expect(readdirSync(rig.source)).toEqual([])
      await world.expectWhole()
      await expectSettled(rig)
    } finally {
      await rig.stop()
    }
  })
  await fc.assert(property, { numRuns: RUNS, ...(seed !== undefined && { seed: Number(seed) }) })
})
