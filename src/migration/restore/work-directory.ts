import { randomBytes } from 'node:crypto'
import { closeSync, constants, fsyncSync, readSync, writeSync } from 'node:fs'
import { z } from 'zod'
import { FsError, UsageError } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import {
  AT_REMOVEDIR,
  closeDescriptor,
  directoryBatches,
  mkdirAt,
  openAt,
  openInside,
  renameAt,
  statAt,
  statDescriptor,
  unlinkAt,
} from '../../sys/index.ts'
import { endingOf } from './ending-mark.ts'
import { codeOf } from './findings.ts'
import { loosen } from './guards.ts'

const NAME = '.ferryfs-restore'
const TEMPORARY = '.ferryfs-'
const STATE = Buffer.from('state.json')
const NEW_STATE = Buffer.from('state.new')
const LINKS = Buffer.from('links')
const DOT = Buffer.from('.')
const MAX_STATE_BYTES = 4096
const OTHERS =
  'DEST has something else there, and was open to others: it may be theirs; remove it there, or give another DEST'

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

const stateSchema = z.object({
  format: z.literal(1),
  /** Begins the names of files that are being written; nobody else knows it. */
  token: z.string().regex(/^[0-9a-f]{16}$/),
  namespace: z.string(),
  /** `finishing`: DEST opens, or was opened by a run that did not come to its end: what is in it may be of others. It stays so. */
  phase: z.enum(['writing', 'finishing']),
})
type State = z.infer<typeof stateSchema>

/** Names that the working directory may have: the first that the tree itself does not have in its root. */
export function workDirectoryNames(): Buffer[] {
  return [NAME, ...Array.from({ length: 9 }, (_, nth) => `${NAME}.${nth + 1}`)].map((name) =>
    Buffer.from(name),
  )
}

/**
 * A directory in DEST that says that a restore is under way there, and keeps what the next run needs. It goes last.
 *
 * `links` holds a link to each file with several names that this run has written, by the file's identity: so no list of them is
 * in memory, and no path has to be walked to make the next name.
 */
export class WorkDirectory {
  readonly name: Buffer
  readonly links: number
  readonly #root: number
  readonly #descriptor: number
  /** Tells the names of this run from those that an earlier one has left. */
  readonly #run = randomBytes(4).toString('hex')
  #state: State
  #temporaries = 0

  private constructor(
    root: number,
    name: Buffer,
    parts: { descriptor: number; links: number; state: State },
  ) {
    this.name = name
    this.#root = root
    this.#descriptor = parts.descriptor
    this.links = parts.links
    this.#state = parts.state
  }

  /**
   * Goes on with the restore under way in DEST, or begins one. DEST is the caller's by now.
   * @throws UsageError if the one under way is of another tree, or somebody else's
   */
  static open(root: number, name: Buffer, namespace: string): WorkDirectory {
    try {
      mkdirAt(root, name, 0o700)
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error
    }
    faultPoint('migration.restore.begun')
    const descriptor = openInside(root, name, DIRECTORY)
    try {
      requireOwn(root, descriptor)
      const known = readState(descriptor)
      const found = known ?? ending(endingOf(root))
      if (found) requireNamespace(found.namespace, namespace)
      const state = found ?? newState(namespace, 'writing')
      if (!known) writeState(descriptor, state)
      sync(root)
      faultPoint('migration.restore.claimed')
      return new WorkDirectory(root, name, { descriptor, links: freshLinks(descriptor), state })
    } catch (error) {
      closeDescriptor(descriptor)
      throw error
    }
  }

  /** Whether DEST takes two names that differ for one, as some file systems do with upper and lower case. */
  get foldsNames(): boolean {
    return find(this.#descriptor, Buffer.from(STATE.toString().toUpperCase())) !== undefined
  }

  /** Whether DEST was open to others: what is in it and not in the tree as it is there may be theirs, so it is not replaced. */
  get mayBeOthers(): boolean {
    return this.#state.phase === 'finishing'
  }

  /** To be asked before something in DEST is replaced. @throws FsError if that may be of others */
  requireReplaceable(): void {
    if (this.mayBeOthers) throw new FsError('EEXIST', OTHERS)
  }

  /** A name for a file that is not whole yet, anywhere in DEST. */
  temporary(): Buffer {
    this.#temporaries += 1
    return Buffer.from(`${TEMPORARY}${this.#state.token}-${this.#run}-${this.#temporaries}`)
  }

  /** Whether a file of this name is left over from a run that was cut short. */
  isTemporary(name: Buffer): boolean {
    return name.toString('latin1').startsWith(`${TEMPORARY}${this.#state.token}-`)
  }

  /** DEST may be open to others from now on, whatever happens. */
  beginToOpen(): void {
    emptyLinks(this.links)
    this.#state = { ...this.#state, phase: 'finishing' }
    writeState(this.#descriptor, this.#state)
  }

  /** The restore is over. */
  remove(): void {
    emptyLinks(this.links)
    unlinkAt(this.#descriptor, LINKS, AT_REMOVEDIR)
    for (const name of [NEW_STATE, STATE]) {
      try {
        unlinkAt(this.#descriptor, name)
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error
      }
    }
    unlinkAt(this.#root, this.name, AT_REMOVEDIR)
  }

  close(): void {
    closeDescriptor(this.links)
    closeDescriptor(this.#descriptor)
  }
}

const newState = (namespace: string, phase: State['phase']): State => ({
  format: 1,
  token: randomBytes(8).toString('hex'),
  namespace,
  phase,
})

/** Of a restore whose working directory has gone already. */
function ending(namespace: string | undefined): State | undefined {
  return namespace === undefined ? undefined : newState(namespace, 'finishing')
}

/**
 * Whoever made DEST before the restore could have put such a directory into it, which says that all of the tree is there already, beside
 * files of his own that would be kept and get their attributes.
 */
function requireOwn(root: number, descriptor: number): void {
  const { uid } = statDescriptor(descriptor)
  if (uid === statDescriptor(root).uid) return
  throw new UsageError(
    `DEST: what is there was not left by a restore of yours, but by the user with number ${uid}; give another DEST`,
  )
}

/** @throws UsageError if a restore that is under way is of another namespace than the one to be written */
export function requireNamespace(found: string, namespace: string): void {
  if (found === namespace) return
  throw new UsageError(
    `in DEST a restore of namespace ${found} is under way, not of ${namespace}; give another DEST`,
  )
}

/** The namespace of the restore that is under way, if DEST has such a directory of one that has said so. */
export function underWay(root: number, name: Buffer): string | undefined {
  let descriptor: number
  try {
    descriptor = openInside(root, name, DIRECTORY)
  } catch {
    return undefined
  }
  try {
    return readState(descriptor)?.namespace
  } finally {
    closeDescriptor(descriptor)
  }
}

function readState(descriptor: number): State | undefined {
  let file: number
  try {
    file = openInside(descriptor, STATE, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const buffer = Buffer.alloc(MAX_STATE_BYTES)
    const text = buffer.toString('utf8', 0, readSync(file, buffer, 0, buffer.length, 0))
    return stateSchema.parse(JSON.parse(text))
  } catch (cause) {
    throw new UsageError(
      'DEST: state.json of the restore that is under way there cannot be read; give another DEST',
      2,
      {
        cause,
      },
    )
  } finally {
    closeSync(file)
  }
}

function writeState(descriptor: number, state: State): void {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
  const file = openAt(descriptor, NEW_STATE, flags, 0o600)
  try {
    const bytes = Buffer.from(JSON.stringify(state))
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameAt(descriptor, NEW_STATE, descriptor, STATE, 0)
  sync(descriptor)
}

function freshLinks(descriptor: number): number {
  try {
    mkdirAt(descriptor, LINKS, 0o700)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
  }
  const links = openInside(descriptor, LINKS, DIRECTORY)
  emptyLinks(links)
  return links
}

/** What a run linked does not count for the next one: that compares every file anew. */
function emptyLinks(links: number): void {
  // Once more after one that found some: a listing may pass over names while others go.
  for (let found = true; found; ) {
    found = false
    const listed = openAt(links, DOT, DIRECTORY)
    try {
      for (const batch of directoryBatches(listed)) {
        for (const { name } of batch) {
          // A run that was killed may have left it guarded.
          loosen(links, name, find(links, name))
          unlinkAt(links, name)
        }
        found ||= batch.length > 0
      }
    } finally {
      closeDescriptor(listed)
    }
  }
}

export function sync(descriptor: number): void {
  fsyncSync(descriptor)
}

/** Attributes of a name, `undefined` if there is none. @throws FsError for a name that DEST cannot have */
export function find(directory: number, name: Buffer): ReturnType<typeof statAt> | undefined {
  try {
    return statAt(directory, name)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}
