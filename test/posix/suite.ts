import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { Agent, type Identity } from '../support/posix/agent.ts'
import { type Features, featuresOfPlainDirectory } from '../support/posix/features.ts'
import { ALICE, BOB, CAROL, type CaseContext, type PosixCase, TEAM } from './case.ts'
import { accessControlLists } from './cases/acl.ts'
import { concurrency } from './cases/concurrency.ts'
import { directories } from './cases/directories.ts'
import { durability } from './cases/durability.ts'
import { inodes } from './cases/inodes.ts'
import { locks } from './cases/locks.ts'
import { memory } from './cases/memory.ts'
import { mixedPrograms } from './cases/mixed-programs.ts'
import { names } from './cases/names.ts'
import { opening } from './cases/opening.ts'
import { ownership } from './cases/ownership.ts'
import { permissions } from './cases/permissions.ts'
import { privileges } from './cases/privileges.ts'
import { renaming } from './cases/renaming.ts'
import { space } from './cases/space.ts'
import { specialFiles } from './cases/special-files.ts'
import { symlinks } from './cases/symlinks.ts'
import { times } from './cases/times.ts'
import { unlinked } from './cases/unlinked.ts'
import { xattrs } from './cases/xattrs.ts'

const THEMES: Readonly<Record<string, readonly PosixCase[]>> = {
  ownership,
  permissions,
  privileges,
  'access control lists': accessControlLists,
  times,
  inodes,
  names,
  directories,
  opening,
  unlinked,
  renaming,
  space,
  memory,
  locks,
  'special files': specialFiles,
  symlinks,
  xattrs,
  durability,
  concurrency,
  programs: mixedPrograms,
}

export interface PosixSuiteOptions {
  /** What is tested, for the report. */
  readonly name: string
  /** An existing directory that every user can reach; read when the first case starts. */
  readonly directory: () => string
  /**
   * Cases ("theme: name") that are known to fail, with the reason. Each must fail: one that passes fails the run, so
   * that the list stays true.
   */
  readonly expectations?: ReadonlyMap<string, string>
  /** What the file system has to do; by default whatever a plain directory under the system's temporary one does. */
  readonly supports?: Partial<Features>
  /** Entries of the large directory; default FERRYFS_POSIX_ENTRIES or 5,000. */
  readonly entries?: number
}

class Team {
  readonly me: Agent
  readonly second: Agent
  readonly alice = Team.#user('alice', ALICE, [TEAM])
  readonly bob = Team.#user('bob', BOB, [TEAM])
  readonly carol = Team.#user('carol', CAROL, [])
  readonly workers: readonly Agent[]

  constructor() {
    this.me = new Agent('me', null)
    this.second = new Agent('second', null)
    this.workers = [1, 2, 3, 4].map((n) => new Agent(`worker ${n}`, null))
  }

  static #user(name: string, id: number, groups: readonly number[]): Agent {
    const identity: Identity = { uid: id, gid: id, groups }
    return new Agent(name, identity)
  }

  get #all(): readonly Agent[] {
    return [this.me, this.second, this.alice, this.bob, this.carol, ...this.workers].filter((a) => a.running)
  }

  async reset(): Promise<void> {
    await Promise.all(this.#all.map((agent) => agent.call.reset()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((agent) => agent.stop()))
  }

  async kill(): Promise<void> {
    await Promise.all(this.#all.map((agent) => agent.kill()))
  }
}

/** Whether a file system answers at all, after a case that waited in vain. statfs(2) is never answered from a cache. */
async function answers(path: string): Promise<boolean> {
  const probe = new Agent('probe', null)
  const bound = new AbortController()
  const answer = probe.call.statvfs(path).then(
    () => true,
    () => false,
  )
  const limit = setTimeout(5_000, false, { signal: bound.signal }).catch(() => false)
  try {
    return await Promise.race([answer, limit])
  } finally {
    bound.abort()
    await probe.kill()
  }
}

/** Runs a case that is known to fail, and fails if it does not. */
async function deviate(posixCase: PosixCase, c: CaseContext, reason: string): Promise<void> {
  const failure = await posixCase.run(c).then(
    () => undefined,
    (error: unknown) => error,
  )
  if (failure === undefined)
    throw new Error(`passes, but is expected to fail: ${reason}. Take it off the list.`)
}

/**
 * What an application may rely on in any directory of a local file system, as tests. They pass on ext4, the reference;
 * on a mount they show where it can be told from the volume under it.
 */
export function posixSuite(options: PosixSuiteOptions): void {
  const entries = options.entries ?? Number(process.env.FERRYFS_POSIX_ENTRIES ?? 5_000)
  const known = new Set<string>()
  for (const [theme, cases] of Object.entries(THEMES))
    for (const { name } of cases) known.add(`${theme}: ${name}`)
  for (const name of options.expectations?.keys() ?? []) {
    if (!known.has(name)) throw new Error(`posixSuite: no case is named "${name}"`)
  }

  describe(`P1: as a local file system does, on ${options.name}`, () => {
    const team = new Team()
    const skipped = new Map<string, number>()
    let features: Features
    let home: string
    /** The case that ran into its time limit last. */
    let hungIn: string | undefined

    beforeAll(async () => {
      features = { ...(await featuresOfPlainDirectory()), ...options.supports }
      home = `${options.directory()}/posix-suite`
      await team.me.call.mkdir(home, 0o755)
      if (!features.root) return
      await team.alice.call.stat(home).catch((error: unknown) => {
        throw new Error(`other users cannot reach ${home}: make its parents searchable (chmod 755)`, {
          cause: error,
        })
      })
    })

    afterAll(async () => {
      if (hungIn === undefined) await team.me.call.removeTree(home)
      await team.stop()
      for (const [reason, count] of skipped)
        console.info(`${options.name}: ${count} cases skipped: ${reason}`)
    })

    const context = (dir: string, skip: (reason: string) => never): CaseContext => ({
      dir,
      me: team.me.call,
      second: team.second.call,
      alice: team.alice.call,
      bob: team.bob.call,
      carol: team.carol.call,
      workers: team.workers.map((agent) => agent.call),
      secondPid: () => team.second.pid(),
      killSecond: () => team.second.kill(),
      entries,
      skip,
    })

    for (const [theme, cases] of Object.entries(THEMES)) {
      describe(theme, () => {
        for (const [index, posixCase] of cases.entries()) {
          test(posixCase.name, async ({ skip, signal }) => {
            const skipBecause = (reason: string): never => {
              skipped.set(reason, (skipped.get(reason) ?? 0) + 1)
              return skip(reason)
            }
            const missing = (posixCase.needs ?? []).filter((need) => !features[need])
            if (missing.length > 0) skipBecause(`the reference lacks ${missing.join(', ')}`)
            // A file system that hangs ends the case by the test's time limit; the agents in its grip go with it.
            signal.addEventListener('abort', () => {
              hungIn = posixCase.name
              void team.kill()
            })
            if (hungIn !== undefined && !(await answers(home))) {
              throw new Error(`not run: the file system gives no answer since "${hungIn}"`)
            }
            hungIn = undefined
            const dir = `${home}/${theme.replaceAll(' ', '-')}-${index}`
            await team.me.call.mkdir(dir)
            await team.me.call.chmod(dir, 0o777)
            const c = context(dir, skipBecause)
            const reason = options.expectations?.get(`${theme}: ${posixCase.name}`)
            try {
              await (reason === undefined ? posixCase.run(c) : deviate(posixCase, c, reason))
            } finally {
              if (!signal.aborted) {
                await team.reset()
                await team.me.call.removeTree(dir)
              }
            }
          })
        }
      })
    }
  })
}
