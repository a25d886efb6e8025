import type { Mode } from '../../../src/base/modes.ts'
import type { Script, Step } from '../app/script.ts'

/** Steps behind which something is gone, as a recording shows them. */
export type Destruction =
  | 'staging file removed'
  | 'staging cut'
  | 'staging punched'
  | 'staging leftover removed'
  | 'staging leftover cut'
  | 'object of chunks deleted'
  | 'object of files deleted'
  | 'object of dirs deleted'
  | 'stray object deleted'
  | 'name left its record'
  | 'manifest replaced'
  | 'inline object replaced'
  | 'preserved inline object replaced'
  | 'record replaced'
  | 'legacy file reaped'
  | 'legacy file of a whiteout reaped'
  | 'legacy directory reaped'
  | 'value file removed'
  | 'value directory removed'
  | 'legacy bytes written'
  | 'legacy file cut'
  | 'legacy file removed'
  | 'legacy directory removed'
  | 'legacy name moved'
  | 'legacy name replaced'
  | 'cache file removed'
  | 'state file renamed'
  | 'WAL folded into the catalog'
  | 'WAL folded into the store index'
  | 'WAL of the catalog begun'
  | 'WAL of the store index begun'

/** A row of the table "After a power cut" in docs/crash-points.md. */
export interface Row {
  /** What a recording shows of it. */
  readonly steps: readonly Destruction[]
  readonly modes: readonly Mode[]
  /** Stores that it is tried with; both if there is nothing here. */
  readonly distant?: boolean
  readonly inlineLimit?: number
  readonly script: readonly Step[]
  /** The steps are done by the start after a power cut at the end of the script: so many of those are tried. */
  readonly atStart?: number
  /** The same by the start after `kill -9` at the last passage of each of these points. */
  readonly killedAt?: readonly string[]
  /** Other ways in which steps come about, tried first. */
  readonly also?: readonly Omit<Row, 'also'>[]
}

const MiB = 1024 * 1024
const BOTH = ['drain', 'store-only'] as const
const COPYING = ['mirror', 'prefer-store', ...BOTH] as const

const migrate: Step = { step: 'migrate' }
const settle: Step = { step: 'settle' }
const pass = (ms: number): Step => ({ step: 'pass', ms })
const fsync = (path: string): Step => ({ step: 'fsync', path })
const write = (path: string, at: number, size: number): Step => ({ step: 'write', path, at, size })

/** Two chunks, one of which is written again and again. */
const CHUNK_REPLACED = [
  migrate,
  write('/e/b', MiB + 100, 5000),
  settle,
  write('/e/b', MiB + 100, 10),
  fsync('/e/b'),
  settle,
  pass(5000),
]

/**
 * By the first column of the table: how each of its steps is brought about. A row of the table that is not here fails
 * a test.
 */
export const ROWS: Readonly<Record<string, Row>> = {
  'a staging file, once its bytes are in the store, or nothing is staged, or its file is gone': {
    steps: ['staging file removed'],
    modes: BOTH,
    script: [migrate, write('/e/b', 100, 5000), fsync('/e/b'), settle, pass(1000)],
  },
  'the end of a staging file (truncation)': {
    steps: ['staging cut'],
    modes: BOTH,
    script: [
      migrate,
      { step: 'append', path: '/e/a', size: 40_000 },
      fsync('/e/a'),
      { step: 'truncate', path: '/e/a', size: 6000 },
      pass(1000),
    ],
  },
  'what a crash left in the staging directory: files that no row owns, bytes that no row lists': {
    steps: ['staging leftover removed', 'staging leftover cut'],
    modes: BOTH,
    script: [
      migrate,
      settle,
      write('/e/b', 100, 5000),
      fsync('/e/b'),
      write('/e/b', MiB + 100, 5000),
      write('/e/a', 100, 5000),
    ],
    atStart: 6,
    also: [
      {
        // Nothing that is staged is left after the first cut, and the intent to cut the file is.
        steps: ['staging leftover removed'],
        modes: BOTH,
        script: [
          migrate,
          settle,
          pass(1000),
          write('/e/a', 100, 5000),
          { step: 'truncate', path: '/e/a', size: 6000 },
        ],
        atStart: 2,
      },
      {
        // What the killed process had written, and nobody has flushed.
        steps: ['staging leftover removed'],
        modes: BOTH,
        script: [migrate, settle, pass(1000), write('/e/b', MiB + 100, 10)],
        killedAt: ['content.write.begun', 'content.write.filled'],
      },
    ],
  },
  'chunk and page objects that nothing refers to, objects of removed files, shards of an earlier record': {
    steps: ['object of chunks deleted', 'object of files deleted', 'object of dirs deleted'],
    modes: COPYING,
    script: [
      { step: 'mkdir', path: '/g' },
      ...CHUNK_REPLACED,
      { step: 'unlink', path: '/d/a' },
      { step: 'rmdir', path: '/g' },
      settle,
      pass(5000),
    ],
  },
  'an object that no path names, and that no catalog knows of (`sweep`)': {
    steps: ['stray object deleted'],
    modes: COPYING,
    script: [
      { step: 'stray' },
      ...CHUNK_REPLACED,
      { step: 'unlink', path: '/d/a' },
      { step: 'sweep' },
      pass(50),
    ],
  },
  'a name in a directory record, of a file that is somewhere else now': {
    steps: ['name left its record'],
    modes: COPYING,
    // One in each direction: whichever record is written first has to keep a name.
    script: [
      migrate,
      { step: 'rename', path: '/d/a', to: '/e/c' },
      { step: 'rename', path: '/e/a', to: '/d/c' },
      settle,
      pass(1000),
    ],
  },
  "an object that is replaced under its key (a file's next version)": {
    steps: ['manifest replaced'],
    modes: COPYING,
    script: [migrate, write('/e/b', 100, 5000), settle, write('/e/b', 100, 10), settle],
  },
  "the inline object that has a file's only bytes": {
    steps: ['preserved inline object replaced'],
    modes: BOTH,
    inlineLimit: MiB,
    script: [migrate, settle, pass(1000), write('/d/a', MiB + 100, 100), settle, pass(1000)],
  },
  'a directory record (shards, header) that is replaced': {
    steps: ['record replaced'],
    modes: COPYING,
    script: [migrate, { step: 'create', path: '/d/c' }, { step: 'unlink', path: '/e/a' }, settle],
  },
  'a legacy file, once the store has it': {
    steps: ['legacy file reaped'],
    modes: ['drain'],
    script: [{ step: 'link', path: '/d/a', to: '/e/c' }, write('/d/b', 0, 10), migrate, settle, pass(5000)],
    also: [
      {
        // In the store and in every record long before the catalog has the authority on it: nothing else asks for a flush.
        steps: ['legacy file reaped'],
        modes: ['mirror'],
        script: [migrate, settle, pass(35_000), { step: 'mode', mode: 'drain' }, migrate, pass(5000)],
      },
    ],
  },
  'a legacy file that was removed through the overlay in a mode that writes to the store': {
    steps: ['legacy file of a whiteout reaped'],
    modes: ['drain'],
    script: [
      { step: 'unlink', path: '/d/a' },
      { step: 'rename', path: '/d/b', to: '/e/c' },
      settle,
      pass(5000),
    ],
  },
  'a legacy directory with nothing left in it': {
    steps: ['legacy directory reaped'],
    modes: ['drain'],
    script: [migrate, settle, pass(5000), settle],
  },
  "a value's file in the embedded store": {
    steps: ['value file removed'],
    modes: COPYING,
    distant: false,
    script: [
      migrate,
      write('/e/b', 100, 5000),
      settle,
      write('/e/b', 100, 10),
      fsync('/e/b'),
      settle,
      pass(5000),
    ],
  },
  'bytes of a legacy file that the store has, written over in place in a mode that writes there': {
    steps: ['legacy bytes written'],
    modes: ['mirror', 'prefer-store'],
    // Long enough for the volume to have been synced since everything was copied from it.
    script: [migrate, settle, pass(35_000), write('/e/a', 0, 5000), pass(50)],
  },
}

/** The scripts of a row: one for each mode and kind of store. */
export function scriptsOfRow({ modes, distant, inlineLimit = 64, script }: Omit<Row, 'also'>): Script[] {
  const stores = distant === undefined ? [false, true] : [distant]
  return modes.flatMap((mode) =>
    stores.map((each) => ({
      mode,
      variant: 'plain' as const,
      distant: each,
      inlineLimit,
      pace: 1,
      steps: script,
    })),
  )
}
