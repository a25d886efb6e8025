import type { Mode, Policy } from '../../../src/base/modes.ts'
import type { Action, Reply } from '../actions.ts'
import type { World } from '../world/world.ts'

/** What a fault may have the session do. */
export interface Conductor {
  readonly world: World
  readonly mode: Mode
  readonly policy: Policy
  /** Which phase of the session it is. */
  readonly phase: number
  /**
   * Holds the clients between two system calls, has `body` take the mount away and bring it back, and lets them go on.
   * What they had open is gone.
   */
  remounting(body: () => Promise<void>): Promise<void>
  /** As `remounting`, with a body that cuts the power: what was not synced may be gone, and is looked for before anybody goes on. */
  cutting(body: () => Promise<void>): Promise<void>
  /** An action of the first client that has to succeed as on a local file system. */
  perform(action: Action): Promise<void>
  /** A file of the legacy volume that no client changes: its content is now this. */
  changedPast(path: string, content: Buffer): void
  /** Reads such a file through the mount, past the page cache. @throws Error with the errno */
  readPast(path: string): Promise<Buffer>
  /** A call of a process that works in the whole mount, whatever it answers. */
  ask(action: Action): Promise<Reply>
  /** Everything is in the store; in a mode that removes legacy files none is left. */
  moved(): Promise<void>
  /** The store may hold objects that are damaged for good, until they are found. */
  damaged(): void
  /** The fault could not be made to happen. */
  notInjected(why: string): void
  /** Something worth a word in the report. */
  note(key: string): void
}

export type Group = 'network' | 'processes' | 'disks' | 'volume' | 'clock' | 'power'

/** Something that goes wrong, on purpose. */
export interface Fault {
  readonly name: string
  /** Faults of a group share a session's settings; several where faults are combined. */
  readonly groups: readonly Group[]
  /** Why it cannot be had here; undefined if it can. */
  readonly unavailable?: (
    world: Pick<World, 'store' | 'clock' | 'power' | 'whyNoPower'>,
  ) => string | undefined
  /** Modes in which it means nothing. */
  readonly idleIn?: (policy: Policy) => string | undefined
  readonly begin?: (conductor: Conductor) => Promise<void>
  readonly end?: (conductor: Conductor) => Promise<void>
  /** Acts so many times while the clients work, at even distances. */
  readonly strikes?: number
  readonly strike?: (conductor: Conductor, nth: number) => Promise<void>
  /** Whether an operation may fail with this errno while the fault is in force. */
  readonly excuses?: (policy: Policy, action: Action, errno: string) => boolean
}

const CONTENT = new Set<Action['do']>([
  'read',
  'readHeld',
  'write',
  'writeHeld',
  'truncate',
  'record',
  'publish',
  'walk',
])
const CHANGING = new Set<Action['do']>([
  'write',
  'writeHeld',
  'truncate',
  'record',
  'publish',
  'rename',
  'link',
  'symlink',
  'unlink',
  'rmdir',
  'mkdir',
  'chmod',
  'utimes',
  'xattr',
  'syncDirectory',
])

/** A store that fails shows only where content lies nowhere else: the legacy volume hides it in the other modes. */
export function excusesStore(policy: Policy, action: Action, errno: string): boolean {
  return policy.writeTo === 'store' && CONTENT.has(action.do) && (errno === 'EIO' || errno === 'ETIMEDOUT')
}

/** With --ack store a close waits for the store, in every mode, and says so if it does not come. */
export function excusesClose(action: Action, errno: string): boolean {
  const closes = CONTENT.has(action.do) || action.do === 'hold' || action.do === 'release'
  return closes && (errno === 'EIO' || errno === 'ETIMEDOUT')
}

export function isChange(action: Action): boolean {
  return CHANGING.has(action.do)
}
