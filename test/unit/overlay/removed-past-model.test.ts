import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import { differences, diskTree } from '../../support/rig/trees.ts'

// FERRYFS_SEED=… FERRYFS_RUNS=… brings a run back, or makes more of them.
const seed = process.env.FERRYFS_SEED
const RUNS = Number(process.env.FERRYFS_RUNS ?? 25)
const TREE = ['a', 'a/b', 'a/b/c', 'd', 'd/e', 'f']

type Step =
  | { readonly do: 'removed past' | 'replaced past' | 'made' | 'made past' | 'written'; readonly at: number }
  | { readonly do: 'linked past' | 'moved past'; readonly at: number; readonly into: number }
  | { readonly do: 'known' | 'opened' | 'looked' | 'migrated' | 'worker' | 'mount' | 'drain' }

const number = fc.nat(30)
const STEP: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('removed past', 'replaced past'), at: number }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('made', 'made past', 'written'), at: number }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('linked past', 'moved past'), at: number, into: number }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('known', 'known', 'opened', 'looked', 'migrated', 'worker', 'mount', 'drain'),
    }),
  },
)

/** What SOURCE has, by paths: directories, of which the root is '', and files. */
function found(source: string): { directories: string[]; files: string[] } {
  const all = readdirSync(source, { recursive: true, withFileTypes: true })
    .map((entry) => ({ entry, path: join(entry.parentPath, entry.name).slice(source.length + 1) }))
    .sort((one, other) => (one.path < other.path ? -1 : 1))
  const paths = (isWanted: (of: (typeof all)[number]) => boolean): string[] =>
    all.filter(isWanted).map(({ path }) => path)
  return {
    directories: ['', ...paths(({ entry }) => entry.isDirectory())],
    files: paths(({ entry }) => entry.isFile()),
  }
}

const pick = (all: readonly string[], at: number): string => all[at % all.length] ?? ''

class World {
  readonly #rig: Rig
  #made = 0

  constructor(rig: Rig) {
    this.#rig = rig
  }

  async run(step: Step): Promise<void> {
    const client = new Client(this.#rig)
    if ('into' in step || step.do.endsWith('past')) this.#past(step)
    else if (step.do === 'looked') await look(client)
    else if (step.do === 'known' || step.do === 'opened') await this.#know(client, step.do === 'opened')
    else if (step.do === 'migrated') await this.#rig.migrate()
    else if (step.do === 'worker' || step.do === 'mount') await this.#rig.restart(step.do)
    else if (step.do === 'drain') await this.#rig.setMode('drain')
    else if ('at' in step) await this.#change(client, step).catch(() => undefined)
  }

  /** The kernel keeps what it looked up, and an application what it opened, until the end. */
  async #know(client: Client, opens: boolean): Promise<void> {
    for (const path of [...(await client.tree().catch(() => new Map<string, unknown>())).keys()])
      await client
        .node(path)
        .then((node) => (opens ? client.open(node, 0) : undefined))
        .catch(() => undefined)
  }

  async #change(client: Client, { do: what, at }: { do: string; at: number }): Promise<void> {
    const { directories, files } = found(this.#rig.source)
    this.#made += 1
    if (what === 'made')
      await client.create(join(pick(directories, at), `made-${this.#made}`), `made ${this.#made}`)
    else if (files.length > 0) await client.overwrite(pick(files, at), 0, `written ${this.#made}`)
  }

  #past(step: Step): void {
    const { source } = this.#rig
    const { directories, files } = found(source)
    if (!('at' in step)) return
    const at = (path: string): string => join(source, path)
    this.#made += 1
    const directory = pick(directories, step.at)
    if (step.do === 'made past')
      writeFileSync(at(join(directory, `past-${this.#made}`)), `past ${this.#made}`)
    if (step.do === 'linked past' && files.length > 0)
      linkSync(at(pick(files, step.at)), at(join(pick(directories, step.into), `link-${this.#made}`)))
    if (directory === '') return
    if (step.do === 'removed past') rmSync(at(directory), { recursive: true })
    if (step.do === 'replaced past') {
      cpSync(at(directory), at('copy'), { recursive: true })
      rmSync(at(directory), { recursive: true })
      renameSync(at('copy'), at(directory))
    }
    if (step.do !== 'moved past') return
    const into = pick(directories, step.into)
    const to = at(join(into, `moved-${this.#made}`))
    if (!`${into}/`.startsWith(`${directory}/`) && !existsSync(to)) renameSync(at(directory), to)
  }
}

/** What happened past the overlay is learned by a look at it; what that has in it, by the next. */
async function look(client: Client): Promise<void> {
  for (let nth = 0; nth < 3; nth += 1) await client.tree().catch(() => undefined)
}

function fill(source: string): void {
  for (const path of TREE) {
    mkdirSync(join(source, path), { recursive: true })
    writeFileSync(join(source, path, 'file'), `file of ${path}`)
  }
}

test('P4, P6: whatever directories go past the overlay while the kernel knows what is in them, nothing waits for it', async () => {
  const property = fc.asyncProperty(fc.array(STEP, { minLength: 3, maxLength: 14 }), async (steps) => {
    const rig = await Rig.start({ mode: 'mirror', fill })
    try {
      const client = new Client(rig)
      const world = new World(rig)
      await rig.migrate()
      for (const step of steps) await world.run(step)
      await look(client)
      await rig.migrate()
      await rig.settle()
      if (rig.modes.policy.writeTo === 'legacy')
        expect(differences(await client.tree(), diskTree(rig.source)), 'overlay | volume').toEqual([])
      expect((await rig.verify()).differences, 'verify').toEqual([])
      await rig.setMode('drain')
      await rig.migrate()
      await rig.migrate()
      await rig.settle()
      for (let sweep = 0; sweep < 3; sweep += 1) await rig.reap()
      expect(found(rig.source).files, 'left on SOURCE').toEqual([])
      expect((await rig.verify()).differences, 'verify in drain').toEqual([])
      await rig.setMode('store-only')
      client.forgetAll()
      await rig.restart('mount')
      await expectSettled(rig)
    } finally {
      await rig.stop()
    }
  })
  await fc.assert(property, { numRuns: RUNS, ...(seed !== undefined && { seed: Number(seed) }) })
})
