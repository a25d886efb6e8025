import { isDeepStrictEqual } from 'node:util'
import { Agent } from './agent.ts'
import { compareTrees } from './compare-trees.ts'
import {
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  XATTR_CREATE,
  XATTR_REPLACE,
} from './constants.ts'
import { SyscallError } from './libc.ts'
import { type ExerciserHooks, runScript, StepFailure } from './scripts.ts'
import type { SnapshotEntry } from './snapshot.ts'
import {
  ACLS,
  CHANGEABLE,
  DIRECTORY_MODES,
  IDS,
  LINKABLE,
  MODES,
  MOMENTS,
  NAMES,
  OPEN_FLAGS,
  operationArbitrary,
  RECENT_NS,
  SLOTS,
  TARGETS,
  type TreeOperation,
  XATTR_NAMES,
} from './tree-script.ts'

export interface TreeOptions {
  /** A plain directory and the one under test; both empty enough, on file systems of the same kind if possible. */
  readonly reference: string
  readonly directory: string
  readonly seed: number
  readonly operations: number
  /** The trees are compared after each so many operations; default 1. */
  readonly compareEvery?: number
  /** Two more users take part besides the one who runs the tests; default: if that is root. */
  readonly users?: boolean
  /** Operations that the file system does not offer; none by default. */
  readonly without?: readonly TreeOperation['kind'][]
  readonly hooks?: ExerciserHooks
  /** Ends the run by killing its processes: the way out of a file system that hangs. */
  readonly signal?: AbortSignal
  /** A script that an earlier failure printed. */
  readonly replay?: readonly TreeOperation[]
  /** Time to shrink a failing script; default 20,000 ms, or 0 where there are hooks. */
  readonly shrinkMs?: number
}

export interface TreeReport {
  readonly seed: number
  /** How often each kind of operation succeeded and failed. */
  readonly counts: Readonly<Record<string, { succeeded: number; failed: number }>>
  /** Entries in the tree at the end. */
  readonly entries: number
}

function pick<T>(list: readonly T[], number: number): T {
  const value = list[number % list.length]
  if (value === undefined) throw new Error('an empty list has nothing to pick')
  return value
}

/** The same call on both sides: a value that is equal, or the same errno. */
type Outcome = { readonly value: unknown } | { readonly errno: string }

/** A pair of descriptors of one file, held by the agent that opened them. */
interface OpenPair {
  readonly agent: Agent
  readonly fds: readonly [number, number]
}

class TreeRun {
  readonly #roots: readonly [string, string]
  readonly #agents: readonly Agent[]
  readonly #compareEvery: number
  readonly #slots: (OpenPair | undefined)[] = Array.from({ length: SLOTS }, () => undefined)
  /** Of the reference, as last seen; operations choose their paths here. */
  #tree: readonly SnapshotEntry[] = []
  readonly #isRoot = process.getuid?.() === 0
  #step = 0
  /** Paths that the operation in hand has chosen, for the message of a failure. */
  readonly #paths = new Set<string>()
  readonly counts: Record<string, { succeeded: number; failed: number }> = {}

  constructor(roots: readonly [string, string], agents: readonly Agent[], compareEvery: number) {
    this.#roots = roots
    this.#agents = agents
    this.#compareEvery = compareEvery
  }

  get entries(): number {
    return this.#tree.length
  }

  async run(script: readonly TreeOperation[], hooks: ExerciserHooks | undefined): Promise<void> {
    await this.#compare()
    for (const [index, operation] of script.entries()) {
      this.#step = index
      await hooks?.between?.({ index, total: script.length, release: () => this.#release() })
      await this.#apply(operation)
      if (index % this.#compareEvery === this.#compareEvery - 1) await this.#compare(operation)
      else this.#tree = await this.#snapshot(this.#roots[0])
    }
    await hooks?.finish?.()
    await this.#release()
    await this.#compare()
  }

  get #me(): Agent {
    return pick(this.#agents, 0)
  }

  async #release(): Promise<void> {
    for (const [index, slot] of this.#slots.entries()) {
      this.#slots[index] = undefined
      for (const fd of slot?.fds ?? []) await slot?.agent.call.close(fd)
    }
  }

  #snapshot(root: string): Promise<SnapshotEntry[]> {
    return this.#me.call.snapshot(root)
  }

  async #compare(operation?: TreeOperation): Promise<void> {
    const [reference, tested] = [await this.#snapshot(this.#roots[0]), await this.#snapshot(this.#roots[1])]
    this.#tree = reference
    // Times that a file system took from its clock differ by what passed between; that they are recent must agree.
    const mtime = ({ mtimeNs }: SnapshotEntry) => (mtimeNs < RECENT_NS ? String(mtimeNs) : 'recent')
    const differences = compareTrees(reference, tested, mtime)
    if (differences.length === 0) return
    const after = operation === undefined ? '' : ` after ${this.#describe(operation)}`
    throw new StepFailure(this.#step, `the trees differ${after}:\n  ${differences.slice(0, 20).join('\n  ')}`)
  }

  #used(path: string): string {
    this.#paths.add(path)
    return path
  }

  /** A path that is there, mostly, and mostly of a type that the operation is meant for. */
  #existing(number: number, types: readonly number[] = []): string {
    const inside = this.#tree.filter(({ path }) => path !== '')
    const fitting = inside.filter(({ mode }) => types.includes(mode & S_IFMT))
    const choice = number % 10 > 1 && fitting.length > 0 ? fitting : inside
    if (choice.length === 0 || number % 10 === 0) return this.#fresh(Math.floor(number / 10))
    return this.#used(pick(choice, Math.floor(number / 10)).path)
  }

  /** A name in a directory that is there; the name may be taken. */
  #fresh(number: number): string {
    const directories = this.#tree.filter(({ mode }) => (mode & S_IFMT) === S_IFDIR).map(({ path }) => path)
    const shallow = directories.filter((path) => path.split('/').length < 4)
    const directory = pick(shallow, number)
    const name = pick(NAMES, Math.floor(number / shallow.length))
    return this.#used(directory === '' ? name : `${directory}/${name}`)
  }

  /** A mode; what only one ordinary user works on stays within his reach, or it could not be compared. */
  #mode(number: number): number {
    const mode = pick(MODES, number)
    return this.#isRoot ? mode : mode | 0o700
  }

  #describe(operation: TreeOperation): string {
    const paths = [...this.#paths].map((path) => JSON.stringify(path)).join(', ')
    return `${operation.kind} by ${pick(this.#agents, operation.who).name} (${paths}; ${JSON.stringify(operation)})`
  }

  async #apply(operation: TreeOperation): Promise<void> {
    const agent = pick(this.#agents, operation.who)
    this.#paths.clear()
    const outcomes: Outcome[] = []
    for (const side of [0, 1] as const) {
      outcomes.push(
        await this[operation.kind](agent, operation, (path) => this.#absolute(side, path), side).then(
          (value) => ({ value }),
          (error: unknown) => {
            if (error instanceof SyscallError) return { errno: error.code }
            throw error
          },
        ),
      )
    }
    const [expected, actual] = outcomes
    if (operation.kind === 'open') await this.#settleOpen(agent, operation, outcomes)
    if (operation.kind === 'close') this.#slots[operation.value % SLOTS] = undefined
    const count = (this.counts[operation.kind] ??= { succeeded: 0, failed: 0 })
    if (expected !== undefined && 'errno' in expected) count.failed += 1
    else count.succeeded += 1
    if (operation.kind === 'open' && [expected, actual].every((outcome) => outcome && 'value' in outcome))
      return
    if (isDeepStrictEqual(expected, actual)) return
    const shown = (outcome: Outcome | undefined) =>
      JSON.stringify(outcome, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))
    throw new StepFailure(
      this.#step,
      `${this.#describe(operation)}: ${shown(actual)}, where a plain directory gives ${shown(expected)}`,
    )
  }

  #absolute(side: 0 | 1, path: string): Buffer {
    return Buffer.concat([Buffer.from(`${this.#roots[side]}/`), Buffer.from(path, 'latin1')])
  }

  async create(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const flags =
      O_CREAT | O_WRONLY | O_NONBLOCK | (o.flags % 2 === 0 ? O_EXCL : 0) | (o.flags % 5 === 0 ? O_TRUNC : 0)
    const fd = await agent.call.open(at(this.#fresh(o.b)), flags, this.#mode(o.value))
    await agent.call.write(fd, `content ${o.value}`)
    return agent.call.close(fd)
  }

  async mkdir(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.mkdir(at(this.#fresh(o.b)), pick(DIRECTORY_MODES, o.value))
  }

  async mkfifo(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.mknod(at(this.#fresh(o.b)), S_IFIFO | (this.#mode(o.value) & 0o777))
  }

  async symlink(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.symlink(Buffer.from(pick(TARGETS, o.value), 'latin1'), at(this.#fresh(o.b)))
  }

  async link(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.link(at(this.#existing(o.a, LINKABLE)), at(this.#fresh(o.b)))
  }

  async rename(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const to = o.flags % 3 === 0 ? this.#existing(o.b) : this.#fresh(o.b)
    const flags = o.flags % 5 === 0 ? RENAME_NOREPLACE : 0
    return agent.call.renameat2(at(this.#existing(o.a)), at(to), flags)
  }

  async exchange(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.renameat2(at(this.#existing(o.a)), at(this.#existing(o.b)), RENAME_EXCHANGE)
  }

  async unlink(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.unlink(at(this.#existing(o.a, LINKABLE)))
  }

  async rmdir(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.rmdir(at(this.#existing(o.a, [S_IFDIR])))
  }

  async chmod(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.chmod(at(this.#existing(o.a, CHANGEABLE)), this.#mode(o.value))
  }

  async chown(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.lchown(at(this.#existing(o.a)), pick(IDS, o.value), pick(IDS, o.flags))
  }

  async utimens(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const path = at(this.#existing(o.a))
    const [atime, mtime] = [pick(MOMENTS, o.value), pick(MOMENTS, o.flags)]
    await agent.call.lutimens(path, atime, mtime)
    // Later it moves with reading, by the rules of each mount: compared only where it was just set.
    return typeof atime === 'bigint' ? (await this.#me.call.lstat(path)).atimeNs : undefined
  }

  async setxattr(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const name = pick(XATTR_NAMES, o.flags)
    const value = name.startsWith('system.') ? pick(ACLS, o.value) : `value ${o.value}`
    const flags = pick([0, 0, XATTR_CREATE, XATTR_REPLACE], o.b)
    return agent.call.setxattr(at(this.#existing(o.a, CHANGEABLE)), Buffer.from(name, 'latin1'), value, flags)
  }

  async removexattr(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const having = this.#tree.filter(({ path, xattrs }) => path !== '' && xattrs.length > 0)
    const chosen = having.length > 0 && o.b % 4 !== 0 ? pick(having, o.a) : undefined
    const name = chosen === undefined ? pick(XATTR_NAMES, o.flags) : (pick(chosen.xattrs, o.flags)[0] ?? '')
    return agent.call.removexattr(
      at(chosen?.path ?? this.#existing(o.a, CHANGEABLE)),
      Buffer.from(name, 'latin1'),
    )
  }

  async write(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const fd = await agent.call.open(at(this.#existing(o.a, [S_IFREG])), O_WRONLY | O_NONBLOCK)
    const written = await agent.call.write(
      fd,
      Buffer.alloc(1 + (o.value % 9000), o.b % 256),
      o.flags % 20_000,
    )
    await agent.call.close(fd)
    return written
  }

  async truncate(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.truncate(at(this.#existing(o.a, [S_IFREG])), o.value % 30_000)
  }

  async read(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const path = at(this.#existing(o.a, [S_IFREG]))
    const fd = await agent.call.open(path, O_RDONLY | O_NONBLOCK)
    try {
      return await agent.call.read(fd, 40_000)
    } finally {
      await agent.call.close(fd)
    }
  }

  async list(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const entries = await agent.call.list(at(this.#existing(o.a, [S_IFDIR])), pick([1024, 32_768], o.flags))
    return entries.map(({ name, type }) => `${name.toString('latin1')} ${type}`).sort()
  }

  async stat(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const path = at(this.#existing(o.a))
    const { mode, uid, gid, nlink, size } = await (o.flags % 2 === 0
      ? agent.call.stat(path)
      : agent.call.lstat(path))
    return { mode, uid, gid, nlink, size: (mode & S_IFMT) === S_IFDIR ? 0 : size }
  }

  async access(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    return agent.call.access(at(this.#existing(o.a)), o.value % 8)
  }

  async open(agent: Agent, o: TreeOperation, at: (path: string) => Buffer): Promise<unknown> {
    const path = o.flags % 2 === 0 ? this.#existing(o.a) : this.#fresh(o.a)
    return agent.call.open(at(path), pick(OPEN_FLAGS, o.b) | O_NONBLOCK, 0o644)
  }

  /** Keeps what was opened on both sides in a slot, in place of what was in it. */
  async #settleOpen(agent: Agent, o: TreeOperation, outcomes: readonly Outcome[]): Promise<void> {
    const fds = outcomes.map((outcome) => ('value' in outcome ? outcome.value : undefined))
    const [reference, tested] = fds
    if (typeof reference !== 'number' || typeof tested !== 'number') return
    const index = o.value % SLOTS
    const before = this.#slots[index]
    for (const fd of before?.fds ?? []) await before?.agent.call.close(fd)
    this.#slots[index] = { agent, fds: [reference, tested] }
  }

  async close(_: Agent, o: TreeOperation, __: unknown, side: 0 | 1): Promise<unknown> {
    const slot = this.#slots[o.value % SLOTS]
    return slot?.agent.call.close(slot.fds[side])
  }

  /** Reads, writes or changes what is open, whatever became of its name. */
  async useOpen(_: Agent, o: TreeOperation, __: unknown, side: 0 | 1): Promise<unknown> {
    const slot = this.#slots[o.value % SLOTS]
    if (slot === undefined) return undefined
    const { call } = slot.agent
    const fd = slot.fds[side]
    const { mode, nlink } = await call.fstat(fd)
    if ((mode & S_IFMT) === S_IFIFO) return { mode, nlink }
    switch (o.flags % 5) {
      case 0:
        return call.read(fd, 50_000, 0)
      case 1:
        return call.write(fd, Buffer.alloc(1 + (o.a % 5000), o.b % 256), o.b % 10_000)
      case 2:
        return call.ftruncate(fd, o.a % 20_000)
      case 3:
        return call.fchmod(fd, this.#mode(o.a))
      default:
        return { mode, nlink, fsync: await call.fsync(fd) }
    }
  }
}

/**
 * Random operations of several users on a plain directory and on the directory under test, in step: each must have the
 * same outcome, and the trees must be equal in names, content, attributes, links and extended attributes afterwards.
 * @throws Error with seed, step, the differences and a short script that fails the same way
 */
export async function treeExerciser(options: TreeOptions): Promise<TreeReport> {
  const { seed, operations, hooks } = options
  const me = new Agent('me', null)
  const users = options.users ?? process.getuid?.() === 0
  const agents = [
    me,
    new Agent('alice', { uid: 4001, gid: 4001, groups: [4010] }),
    new Agent('bob', { uid: 4002, gid: 4002, groups: [4010] }),
  ].slice(0, users ? 3 : 1)
  const actors = users ? [me, me, ...agents] : agents
  options.signal?.addEventListener('abort', () => void Promise.all(agents.map((agent) => agent.kill())))
  let runs = 0
  let last: TreeRun | undefined
  try {
    await runScript<TreeOperation>({
      name: 'tree',
      operation: operationArbitrary(options.without ?? []),
      seed,
      operations,
      replay: options.replay,
      shrinkMs: options.shrinkMs ?? (hooks === undefined ? 20_000 : 0),
      async run(script, withHooks) {
        runs += 1
        const roots = [
          `${options.reference}/tree-${seed}-${runs}`,
          `${options.directory}/tree-${seed}-${runs}`,
        ] as const
        for (const root of roots) {
          await me.call.mkdir(root)
          await me.call.chmod(root, 0o777)
        }
        // The umask has its own cases; here it would keep the users out of each other's directories.
        for (const agent of agents) await agent.call.umask(0)
        last = new TreeRun(roots, actors, options.compareEvery ?? 1)
        try {
          await last.run(script, withHooks ? hooks : undefined)
        } finally {
          for (const agent of agents) if (agent.running) await agent.call.reset()
          for (const root of roots) await me.call.removeTree(root)
        }
      },
    })
    return { seed, counts: last?.counts ?? {}, entries: last?.entries ?? 0 }
  } finally {
    for (const agent of agents) await agent.stop()
  }
}
