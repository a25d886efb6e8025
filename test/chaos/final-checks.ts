import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { VerifyReport } from '../../src/daemon/engine.ts'
import type { Walked } from './actions.ts'
import { walkTree } from './clients/walk.ts'
import { differences } from './model/compare.ts'
import { Contradiction } from './model/subtree.ts'
import type { Session } from './session.ts'
import { Violation } from './violation.ts'

const SETTLE_MS = 90_000
const WHOLE_FILE = 8 << 20

/** Everything that has to hold once all faults are over, from the mount, the volume, the store and the catalog. */
export async function finalChecks(session: Session): Promise<void> {
  const { world, policy } = session
  const { daemon } = world
  await session.releaseAll()
  await observeThroughMount(session, 'P1: through the mount')
  if (session.copies) await storeIsComplete(session)
  if (policy.writeTo === 'legacy') {
    compareDirectory(session, world.legacy, 'P5: on the legacy volume')
  }
  await daemon.unmount()
  session.seal?.check()
  if (session.copies) await rebuilt(session)
}

/** Reads what is in doubt to its end, then compares every client's tree, the untouched files and the shared area. */
async function observeThroughMount(session: Session, where: string): Promise<void> {
  for (const member of session.members) {
    const doubtful = new Set(member.subtree.trees.flatMap((tree) => tree.doubtful()))
    for (const path of doubtful) {
      await session.act(member, { do: 'read', path, offset: 0, length: WHOLE_FILE, direct: true })
    }
    const { reply } = await session.call(member.client, { do: 'walk', path: '', content: true })
    const { tree } = reply
    if (!tree) throw new Violation(`${where}: ${member.client.name} cannot be walked: ${reply.errno}`)
    labelled(`${where}: ${member.client.name}`, () =>
      member.subtree.observed((model) => differences(model, tree, { content: true })),
    )
  }
  for (const path of session.untouched.keys()) await session.readUntouched(path)
  await sharedThroughMount(session)
}

async function sharedThroughMount(session: Session): Promise<void> {
  const read = async (path: string): Promise<string> => {
    const { reply } = await session.call(session.reader, {
      do: 'read',
      path,
      offset: 0,
      length: WHOLE_FILE,
      direct: true,
    })
    if (reply.errno !== undefined) throw new Violation(`P2: ${path} cannot be read: ${reply.errno}`)
    return Buffer.from(reply.data ?? '', 'base64').toString('latin1')
  }
  const { shared } = session
  if (shared.hasRecords) {
    const log = await read('shared/log')
    labelled('P2: shared/log', () => shared.checkLog(log))
  }
  if (shared.hasPublished) {
    const current = await read('shared/current')
    labelled('P1: shared/current', () => shared.checkCurrent(current))
  }
}

/** P4: everything reaches the store; then what the store holds is what it should. */
async function storeIsComplete(session: Session): Promise<void> {
  const { daemon, root } = session.world
  const left = await daemon.migrate()
  await daemon.until('P4: everything in the store and nothing failed', SETTLE_MS, ({ files, outbox }) => {
    return outbox.length === 0 && files.pending === 0 && files.dirty === 0 && files.failed === 0
  })
  if (left > 0) throw new Violation(`P4: a migration with nothing wrong leaves ${left} files`)
  if (session.damaged) {
    const { differences: found } = await daemon.verify()
    refuse(found.filter(({ detail }) => !detail.endsWith('it is written again')))
    await daemon.until('P4: what was damaged is written again', SETTLE_MS, ({ files, outbox }) => {
      return outbox.length === 0 && files.dirty === 0
    })
  }
  // What the faults have left without a path goes; whatever has one is still there, for verify, restore and rebuild to find.
  const { refused } = await daemon.sweep()
  if (refused !== undefined) throw new Violation(`P4: nothing is swept: ${refused}`)
  refuse((await daemon.verify()).differences)
  const destination = join(root, 'restored')
  await daemon.done('restore', daemon.places.target, destination)
  compareDirectory(session, destination, 'P5: restored')
  rmSync(destination, { recursive: true, force: true })
}

function refuse(found: VerifyReport['differences']): void {
  if (found.length === 0) return
  const lines = found.map(({ path, kind, detail }) => `${path} ${kind}: ${detail}`)
  throw new Violation(`P3: verify finds ${found.length}: ${lines.slice(0, 5).join('; ')}`)
}

/** A real directory, not the mount, so it may be read from here. */
function compareDirectory(session: Session, root: string, where: string): void {
  for (const { client, subtree } of session.members) {
    const walked: Walked[] = walkTree(Buffer.from(join(root, client.name)), { content: true })
    labelled(`${where}: ${client.name}`, () =>
      subtree.observed((tree) => differences(tree, walked, { content: true })),
    )
  }
  for (const [path, content] of session.untouched) {
    const file = join(root, path)
    if (!existsSync(file)) throw new Violation(`${where}: ${path} is missing`)
    if (!readFileSync(file).equals(content)) throw new Violation(`${where}: ${path} has other bytes`)
  }
  const { shared } = session
  const text = (name: string): string => readFileSync(join(root, 'shared', name), 'latin1')
  if (shared.hasRecords) labelled(`${where}: shared/log`, () => shared.checkLog(text('log')))
  if (shared.hasPublished) labelled(`${where}: shared/current`, () => shared.checkCurrent(text('current')))
}

/** The catalog made anew from the store alone serves the same tree. */
async function rebuilt(session: Session): Promise<void> {
  const { world } = session
  const [store, namespace] = world.storage()
  const stateDir = join(world.root, 'rebuilt')
  // The old catalog is lost.
  const lost = join(world.daemon.places.stateDir, 'catalog.db')
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(`${lost}${suffix}`)) renameSync(`${lost}${suffix}`, `${lost}.lost${suffix}`)
  }
  await world.daemon.done(...['rebuild', '--store', store, '--namespace', namespace, '--state-dir', stateDir])
  const successor = world.successor(stateDir)
  await successor.mount(undefined)
  await observeThroughMount(session, 'P5: rebuilt from the store')
  await successor.unmount()
}

export function labelled(where: string, body: () => void): void {
  try {
    body()
  } catch (error) {
    if (error instanceof Contradiction) throw new Violation(`${where}: ${error.message}`)
    throw error
  }
}
