import type { Action, Reply } from './actions.ts'
import { labelled } from './final-checks.ts'
import { differences } from './model/compare.ts'
import type { Excuse } from './model/follow.ts'
import type { Member, Session } from './session.ts'
import { Violation } from './violation.ts'

const WHOLE_FILE = 8 << 20
const WHERE = 'P2: after the power cut'
const LOST = 'bytes that nobody had synced were lost, and said to be'

/**
 * What a power cut has left, before anybody goes on: what was synced is there byte for byte, of the rest each file is what it was
 * or what it was to be. The bytes of a file that was not synced may be lost if that is said; such a file is removed.
 */
export async function afterCut(session: Session, note: (key: string) => void): Promise<void> {
  for (const member of session.members) {
    member.subtree.releaseAll()
    member.subtree.cut()
    await lookAt(session, member, note, (action, errno) => session.excuses(action, errno))
    member.subtree.settled()
  }
  for (const path of session.untouched.keys()) await session.readUntouched(path)
  await lookAtShared(session, note)
}

/** The same once everything else is well again. */
export async function lookAgain(session: Session, note: (key: string) => void): Promise<void> {
  for (const member of session.members) await lookAt(session, member, note, () => false)
}

async function lookAt(
  session: Session,
  member: Member,
  note: (key: string) => void,
  excuse: Excuse,
): Promise<void> {
  const { client, subtree } = member
  const where = `${WHERE}: ${client.name}`
  const { reply } = await session.call(client, { do: 'walk', path: '', content: false })
  const { tree } = reply
  if (!tree) throw new Violation(`${where}: cannot be walked: ${reply.errno} in ${reply.step}`)
  labelled(where, () => subtree.observed((model) => differences(model, tree, { content: false })))
  for (const path of new Set(subtree.trees.flatMap((model) => model.files()))) {
    const action: Action = { do: 'read', path, offset: 0, length: WHOLE_FILE, direct: true }
    const { reply: read } = await session.call(client, action)
    if (read.errno !== 'EIO' || excuse(action, read.errno)) {
      labelled(where, () => subtree.answered(action, read, excuse))
      continue
    }
    labelled(where, () => subtree.lost(path))
    note(LOST)
    await session.act(member, { do: 'unlink', path })
  }
}

async function lookAtShared(session: Session, note: (key: string) => void): Promise<void> {
  const { shared } = session
  shared.cut()
  if (shared.mayHaveRecords) {
    const log = await textOf(session, 'shared/log', shared.hasRecords, note)
    if (log !== undefined) labelled(`${WHERE}: shared/log`, () => shared.checkLog(log))
  }
  if (shared.mayHavePublished) {
    const current = await textOf(session, 'shared/current', shared.hasPublished, note)
    if (current === undefined || shared.isWhole(current)) return
    if (shared.hasPublished) labelled(`${WHERE}: shared/current`, () => shared.checkCurrent(current))
    // A new file that nobody has synced: no older version of it could have stayed.
    await session.call(session.reader, { do: 'unlink', path: 'shared/current' })
  }
}

/** Undefined where it is not there and need not be. What nobody synced may be lost if that is said; it is removed then. */
async function textOf(
  session: Session,
  path: string,
  isCertain: boolean,
  note: (key: string) => void,
): Promise<string | undefined> {
  const reply = await readWhole(session, path)
  if (reply.errno === 'ENOENT' && !isCertain) return undefined
  if (reply.errno === 'EIO' && !isCertain) {
    note(LOST)
    await session.call(session.reader, { do: 'unlink', path })
    return undefined
  }
  if (reply.errno !== undefined) throw new Violation(`${WHERE}: ${path} cannot be read: ${reply.errno}`)
  return Buffer.from(reply.data ?? '', 'base64').toString('latin1')
}

async function readWhole(session: Session, path: string): Promise<Reply> {
  const { reply } = await session.call(session.reader, {
    do: 'read',
    path,
    offset: 0,
    length: WHOLE_FILE,
    direct: true,
  })
  return reply
}
