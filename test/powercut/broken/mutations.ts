import type { Case } from '../app/script.ts'
import type { PromiseName } from '../check/promises.ts'

/** A text of the product, once in that file, and what stands in its place. */
export interface Mutation {
  readonly file: string
  readonly from: string
  readonly to: string
}

/**
 * What takes an hour of work in the product takes a short script here, and no call leaves the main thread: a recording can be
 * made again. Nothing else is different.
 */
export const SCALED: readonly Mutation[] = [
  {
    file: 'src/sys/library.ts',
    from: 'call.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(result))),',
    to: 'setImmediate(() => { try { resolve(call(...args)) } catch (error) { reject(error) } }),',
  },
  {
    // Scripts settle in the middle of a mount, the product at its end.
    file: 'src/daemon/composed-engine.ts',
    from: "is nothing to wait for.\n    this.#ending.abort(new Error('the mount has ended'))\n    void mover.stop()",
    to: 'is nothing to wait for.',
  },
  {
    file: 'src/base/checkpoints.ts',
    from: 'const CHECKPOINT_BYTES = 16 * 1024 * 1024',
    to: 'const CHECKPOINT_BYTES = 128 * 1024',
  },
  {
    file: 'src/base/checkpoints.ts',
    from: 'const COMMITS_PER_LOOK = 64',
    to: 'const COMMITS_PER_LOOK = 16',
  },
]

/** The second line of defence: what the staging directory lost and the store has is taken from there. */
const NO_RESCUE: Mutation = {
  file: 'src/content/staged-chunks.ts',
  from: 'const bytes = before && (await bytesFromStore(this.#context, before, index))',
  to: 'const bytes = before && undefined',
}

/** A staging file goes once that is committed, not flushed: the last flushed catalog may list bytes in it. */
const UNLINKED_EARLY: Mutation = {
  file: 'src/content/staging.ts',
  from: 'this.#catalog.afterFlush(() => {',
  to: 'void [path].forEach(() => {',
}

const STAGING_REMOVED =
  'a staging file, once its bytes are in the store, or nothing is staged, or its file is gone'

/** A product that breaks a promise on purpose. */
export interface Broken {
  /** Where it shows, so that not every mode has to be tried. */
  readonly cases: readonly Case[]
  /** One of these has to be found broken. */
  readonly breaks: readonly PromiseName[]
  /** Rows of the table in docs/crash-points.md whose scripts are tried first; they take seconds. */
  readonly rows?: readonly string[]
  readonly mutations: readonly Mutation[]
}

/** Each in one way that somebody could really program: the harness has to catch every one of them. */
export const BROKEN: Readonly<Record<string, Broken>> = {
  'unlink-before-flush': {
    cases: ['drain', 'store-only'],
    breaks: ['P2'],
    rows: [STAGING_REMOVED],
    mutations: [UNLINKED_EARLY, NO_RESCUE],
  },

  /**
   * Objects go from the store while the last flushed catalog may need them. What is made garbage has a flush behind it by other
   * ways, too: a file's next version is written only once what it replaces is let go (`Uploader.#letGo`), and objects of removed
   * files are held until a record without the name is durable, which is flushed before it is written. So that they are not
   * held is broken as well; with that alone P2 holds, and this asks for P2.
   */
  'garbage-before-flush': {
    cases: ['drain', 'store-only'],
    breaks: ['P2'],
    rows: [
      'chunk and page objects that nothing refers to, objects of removed files, shards of an earlier record',
    ],
    mutations: [
      {
        file: 'src/catalog/outbox.ts',
        from: 'isRipe({ space, key }: Garbage): boolean {',
        to: 'isRipe({ space, key }: Garbage): boolean {\n    if (space && key) return true',
      },
      {
        file: 'src/catalog/outbox.ts',
        from: 'SELECT * FROM garbage WHERE held = 0 AND NOT',
        to: 'SELECT * FROM garbage WHERE NOT',
      },
    ],
  },

  /** An object is replaced under its key while the last flushed catalog may need it. */
  'replaced-before-flush': {
    cases: ['drain', 'store-only'],
    breaks: ['P1', 'P2'],
    rows: ["an object that is replaced under its key (a file's next version)"],
    mutations: [{ file: 'src/content/uploader.ts', from: 'if (!fresh) await this.#letGo(ino)', to: '' }],
  },

  /** fdatasync of a file that lies in staging syncs its bytes and not what says that they are its bytes. */
  'lying-fdatasync': {
    cases: ['drain', 'store-only'],
    breaks: ['P1', 'P2'],
    mutations: [
      {
        file: 'src/overlay/sync-operations.ts',
        from: "if (inode.authority !== 'legacy') await writer.sync(node)\n    await catalog.flush()",
        to: "if (inode.authority !== 'legacy') await writer.sync(node)\n    if (!dataOnly) await catalog.flush()",
      },
    ],
  },

  /** fsync of a directory says that it did and did not. */
  'directory-not-synced': {
    cases: ['mirror', 'observe'],
    breaks: ['P2'],
    mutations: [
      {
        file: 'src/overlay/sync-operations.ts',
        from: 'await syncDescriptor(descriptor, dataOnly)\n      } finally {\n        closeDescriptor(descriptor)',
        to: 'void descriptor\n      } finally {\n        closeDescriptor(descriptor)',
      },
    ],
  },

  /** A file that was moved leaves the old directory's record first. */
  'old-parent-first': {
    cases: ['drain', 'store-only', 'mirror'],
    breaks: ['P5'],
    rows: ['a name in a directory record, of a file that is somewhere else now'],
    mutations: [
      {
        file: 'src/content/directory-content.ts',
        from: 'file ? !path.leadsTo(file) && file : vanished(',
        to: 'file ? path === undefined && file : vanished(',
      },
      {
        file: 'src/content/directory-content.ts',
        from: 'for (const departure of catalog.departures.below(directory, 256)) {',
        to: 'for (const departure of catalog.departures.below(directory, 256).slice(0, 0)) {',
      },
    ],
  },

  /**
   * A staging file that was lost is made again, empty, and its chunks are zeros. As long as everything else is right none is lost
   * that was synced, and of what was never synced a local file system may show zeros as well. So what loses them is broken, too;
   * with that alone they are `EIO`, and this asks for P1.
   */
  'made-up-staging': {
    cases: ['drain', 'store-only'],
    breaks: ['P1'],
    rows: [STAGING_REMOVED],
    mutations: [
      UNLINKED_EARLY,
      NO_RESCUE,
      {
        file: 'src/content/staging.ts',
        from: 'descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK)',
        to: 'descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_CREAT | constants.O_NONBLOCK)',
      },
      {
        file: 'src/content/staged-chunks.ts',
        from: 'if (bytes.length < length) return',
        to: 'if (index >= 0) return undefined\n    if (bytes.length < length) return',
      },
    ],
  },

  /**
   * A start removes staging files that it gave up before that is flushed. That a missing one is no reason not to start is the second
   * line, and broken with it.
   */
  'given-up-before-flush': {
    cases: ['drain', 'store-only'],
    breaks: ['P2', 'P4'],
    rows: ['what a crash left in the staging directory: files that no row owns, bytes that no row lists'],
    mutations: [
      {
        file: 'src/overlay/recovery.ts',
        from: '// Nor what that gave up.\n  catalog.flushNow()',
        to: '',
      },
      {
        file: 'src/content/writer.ts',
        from: 'if (inode.staged && this.#staging.isThere(inode)) this.#staging.cut',
        to: 'if (inode.staged) this.#staging.cut',
      },
    ],
  },

  /** A legacy file goes before it is flushed that the store has it. */
  'reaped-before-flush': {
    cases: ['drain', 'mirror'],
    breaks: ['P2'],
    rows: ['a legacy file, once the store has it'],
    mutations: [
      {
        file: 'src/migration/reaper.ts',
        from: "await catalog.flush()\n    faultPoint('migration.reap.flushed')",
        to: "faultPoint('migration.reap.flushed')",
      },
    ],
  },

  /** Bytes are written over on the volume before it is flushed that the file is changed. */
  'written-before-flush': {
    cases: ['mirror', 'prefer-store'],
    breaks: ['P2', 'P5'],
    rows: ['bytes of a legacy file that the store has, written over in place in a mode that writes there'],
    mutations: [
      {
        file: 'src/overlay/marks.ts',
        from: 'return this.#catalog.flush()',
        to: 'return undefined',
      },
    ],
  },

  /** A start after a power cut passes for one after a crash. */
  'power-cut-not-noticed': {
    cases: ['drain', 'store-only', 'mirror'],
    breaks: ['P1', 'P2', 'P5'],
    mutations: [
      {
        file: 'src/overlay/recovery.ts',
        from: "if (catalog.meta.get('boot-id') !== boot) {",
        to: "if (catalog.meta.get('boot-id') === undefined) {",
      },
    ],
  },

  /** The embedded store says that it has a value whose file was not synced. */
  'value-not-synced': {
    cases: ['drain', 'store-only'],
    breaks: ['P1', 'P2', 'P5'],
    mutations: [{ file: 'src/store/embedded/value-files.ts', from: 'await syncData(descriptor)\n', to: '' }],
  },
}
