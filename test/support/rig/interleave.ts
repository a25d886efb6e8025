import { constants, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Act, Clients } from './clients.ts'
import { clock } from './clock.ts'
import { Random } from './random.ts'
import { Rig, type RigOptions } from './rig.ts'
import { Schedule } from './schedule.ts'
import { expectSettled } from './settled.ts'
import { differences, diskTree } from './trees.ts'

const FILES: ReadonlyArray<readonly [string, string, number]> = [
  ['d', 'a', 100],
  ['d', 'b', 5000],
  ['e', 'a', 9000],
]
const content = (size: number): Buffer => Buffer.alloc(size, 0xff)

function fill(source: string): void {
  for (const directory of ['d', 'e']) mkdirSync(join(source, directory), { mode: 0o755 })
  for (const [directory, name, size] of FILES) {
    writeFileSync(join(source, directory, name), content(size), { mode: 0o644 })
  }
}

/** What was measured. */
export const counts = { runs: 0, bursts: 0, requests: 0, steps: 0 }

/**
 * One run: bursts of concurrent acts in an order that the seed decides; after each, with nothing under way, everything is
 * compared with the model. At the end everything settles and is compared with the volume, the store and a rebuilt catalog.
 * Returns the steps in their order. @throws Error with that order
 */
export async function interleave(options: RigOptions, bursts: Act[][][], seed: number): Promise<string[]> {
  clock.forgetTimers()
  // Before the rig: a timer that it sets would be due after what is left of a wait that real time had shortened.
  clock.stopReal(true)
  const rig = await Rig.start({ ...options, seed, fill })
  const schedule = new Schedule(new Random(seed), () => rig)
  const clients = new Clients(rig, schedule)
  try {
    plant(clients)
    if (options.sourceReadonly) clients.readonly = diskTree(rig.source)
    for (const burst of bursts) {
      await schedule.during(() => oneBurst(clients, burst))
      counts.bursts += 1
    }
    await schedule.detach(rig)
    await settle(clients)
    counts.runs += 1
    counts.requests += clients.requests
    counts.steps += schedule.now
    return schedule.trace
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const log = rig.logged.map((line) => JSON.stringify(line).slice(0, 300))
    throw new Error(
      `${why}\nafter\n  ${schedule.trace.slice(-300).join('\n  ')}\nlogged\n  ${log.slice(-30).join('\n  ')}`,
      { cause: error },
    )
  } finally {
    clients.stop()
    await schedule.detach(rig)
    await rig.stop()
    clock.stopReal(false)
  }
}

function plant(clients: Clients): void {
  const { tree } = clients
  for (const directory of ['d', 'e'])
    tree.make({ directory: tree.root, name: directory }, constants.S_IFDIR, 0o755)
  for (const [directory, name, size] of FILES) {
    const parent = tree.root.children.get(directory)
    if (!parent) continue
    const node = tree.make({ directory: parent, name }, constants.S_IFREG, 0o644)
    if (typeof node !== 'string') clients.seed(node, content(size))
  }
}

async function oneBurst(clients: Clients, burst: readonly Act[][]): Promise<void> {
  const { rig, schedule } = clients
  schedule.attach(rig, clients.verdict)
  await Promise.all(burst.map((acts, client) => clients.run(client, acts)))
  rig.disarm()
  await clients.quiesce()
  clients.heal()
  await rig.world.deliverLate()
  // An answer that a fault damaged may be shared by who asks later.
  await schedule.quiet()
  clients.faulty = false
  await clients.reconcile()
  await clients.compareAll('after a burst')
  clients.forget()
}

// Looks of the reaper at a volume on which nothing happens any more.
const REAPED_WITHIN = 4

async function settle(clients: Clients): Promise<void> {
  const { rig, tree, client } = clients
  client.forgetAll()
  // What the store has damaged is written again once it is found.
  if (clients.harmed) {
    await rig.migrate()
    await rig.settle()
    await rig.verify()
  }
  await expectSettled(rig, { unowned: clients.mayLeak || rig.diedWriting })
  const wanted = tree.describe()
  const compare = async (when: string): Promise<void> => {
    const ignore = clients.unsure ? (['mtimeNs', 'mode', 'xattrs'] as const) : (['mtimeNs'] as const)
    const found = differences(await client.tree(), wanted, { ignore })
    if (found.length > 0) throw new Error(`${when}, overlay | model: ${found.join('; ')}`)
  }
  await compare('when settled')
  const changed = clients.readonly ? differences(diskTree(rig.source), clients.readonly) : []
  if (changed.length > 0) throw new Error(`the read-only volume was changed: ${changed.join('; ')}`)
  if (!rig.modes.policy.removesLegacy) return
  let left: string[] = []
  // A daemon looks every two seconds: what was in use a moment ago, or younger than a tick of the volume's clock, goes then.
  for (let looks = 0; looks === 0 || (left.length > 0 && looks < REAPED_WITHIN); looks += 1) {
    await rig.reap()
    await rig.settle()
    await rig.reap()
    left = differences(new Map(), diskTree(rig.source))
  }
  if (left.length > 0) throw new Error(`left on the drained volume: ${left.join('; ')}`)
  await compare('when drained')
}
