import { readFileSync, rmSync } from 'node:fs'
import { delay } from '../base/concurrency.ts'
import { reasonOf } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import { registryFile, runDirectory } from '../config/paths.ts'
import { callDaemon, DaemonError, DaemonGone } from '../daemon/control-client.ts'
import { SIGN_OF_LIFE_MS } from '../daemon/control-protocol.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { locate, mountPath, nothingMounted } from '../daemon/locate.ts'
import { detachStale, MOUNT_TYPE } from '../daemon/mount-drivers.ts'
import { type Registration, supervisorAlive } from '../daemon/registry.ts'
import { watchForHangingDisk } from '../daemon/stuck.ts'
import { mountsOf, parseMountinfo } from '../fuse/kernel/mountinfo.ts'
import { unmountFuse } from '../fuse/native/unmount.ts'
import type { Context, ExitStatus } from './context.ts'
import { hasEnded } from './leaving.ts'
import { counted } from './lists.ts'
import { type MountUser, mountUsers } from './mount-users.ts'
import type { AddCommand } from './run.ts'

interface UnmountFlags {
  readonly force?: true
}

// What the daemon takes to end after it has answered: closing files, releasing the state directory.
const END_MS = 20_000
// The same, with what the worker may take for the store work that is left (--op-timeout).
const SETTLED_MS = 60_000

// A disk that is only busy answers before that.
const LOOKS = 5
const LOOK_MS = 1000

// Twice the time between two signs of life.
const FORCED_SILENCE_MS = 2 * SIGN_OF_LIFE_MS

export const addUnmount: AddCommand = (program, context, finish) => {
  program
    .command('unmount')
    .description('take a mount off; work that the store has not taken by then goes on with the next mount')
    .argument('<target>', 'where it is mounted')
    .option('--force', 'also while it is in use, and without waiting for the store')
    .action((target: string, flags: UnmountFlags) => finish(unmount(target, flags.force ?? false, context)))
}

async function unmount(target: string, force: boolean, context: Context): Promise<ExitStatus> {
  const runDir = runDirectory(context.environment)
  const registration = await locate(target, runDir)
  if (!registration) return clearUp(target, await mountPath(target), context)
  try {
    if (!supervisorAlive(registration)) throw new DaemonGone(registration)
    await requireAnswer(registration, force)
    if (!force) await refuseForeignUsers(registration, context)
    const { outboxLeft } = await callDaemon(
      registration,
      { command: 'unmount', force },
      // Once unmounted it must not be asked again; with --force nobody waits for a daemon that is silent.
      { again: false, ...(force ? { silenceMs: FORCED_SILENCE_MS } : {}) },
    )
    const isGone = await hasEnded(registration, SETTLED_MS)
    context.print(`${registration.target} is unmounted${isGone ? '' : '; its daemon has not ended yet'}`)
    if (outboxLeft === 0) return EXIT.done
    context.print(
      `${counted(outboxLeft, 'piece')} of work for the store left: safe in ${registration.stateDir}, goes on with the next mount`,
    )
    return EXIT.incomplete
  } catch (error) {
    if (error instanceof DaemonGone) return clearUpAfter(registration, runDir, context)
    if (error instanceof DaemonError && error.code === 'EBUSY') {
      for (const line of await whatKeepsBusy(registration)) context.note(line)
      throw inUse(registration.target)
    }
    if (mountsOf(registration.target).at(-1)?.type !== MOUNT_TYPE && (await hasEnded(registration, END_MS))) {
      // The worker died after the mount was off, before it could say what is left.
      return clearUpAfter(registration, runDir, context)
    }
    if (!force) {
      throw new DaemonError(
        `${reasonOf(error)}; "ferryfs unmount --force ${target}" goes without it`,
        EXIT.failed,
      )
    }
    return forceOut(registration, context)
  }
}

/** A worker that answers nobody, or could not end, is not told to unmount: it would do so when nobody expects it any more. @throws DaemonError */
async function requireAnswer(registration: Registration, force: boolean): Promise<void> {
  const { signal, stop } = watchForHangingDisk(registration)
  try {
    const silence = force ? { silenceMs: FORCED_SILENCE_MS } : {}
    for (let looks = LOOKS; ; looks -= 1) {
      const status = await callDaemon(registration, { command: 'status' }, { signal, ...silence })
      if (status.stateDiskAnswers) return
      if (looks === 0) throw new DaemonError(hangs(registration), EXIT.failed)
      await delay(LOOK_MS)
    }
  } finally {
    stop()
  }
}

/**
 * umount(8) minds the users of this mount only. Whoever uses a copy of it in another mount namespace (a container that was given
 * it, a service with its own view) would be left with one that nobody serves.
 * @throws DaemonError
 */
async function refuseForeignUsers({ target, supervisorPid }: Registration, context: Context): Promise<void> {
  const users = await mountUsers(target, new Set([process.pid, supervisorPid]), { foreignOnly: true })
  if (users.length === 0) return
  for (const user of users) context.note(`${asLine(user)} (in another mount namespace)`)
  throw inUse(target)
}

const inUse = (target: string): DaemonError =>
  new DaemonError(
    `${target} is in use; end what uses it, or "ferryfs unmount --force ${target}"`,
    EXIT.failed,
  )

const asLine = ({ pid, name, uses }: MountUser): string =>
  `in use by process ${pid} (${name}): ${uses.join(', ')}`

/** No record: perhaps a stale mount whose record was lost, for example with a container's /run. */
async function clearUp(target: string, path: string, context: Context): Promise<ExitStatus> {
  if (await detachStale(path)) {
    context.print(`${path} is unmounted; its daemon was dead`)
    return EXIT.done
  }
  if (mountsOf(path).at(-1)?.type === MOUNT_TYPE) {
    throw new DaemonError(
      `a ferryfs daemon serves ${path} but is not recorded here; set FERRYFS_RUN_DIR as it was when mounting`,
      EXIT.failed,
    )
  }
  throw nothingMounted(target)
}

async function clearUpAfter(
  { target, stateDir }: Registration,
  runDir: string,
  context: Context,
): Promise<ExitStatus> {
  await detachStale(target)
  rmSync(registryFile(runDir, target), { force: true })
  context.print(
    `${target} is unmounted; its daemon is dead, what it had not finished is safe in ${stateDir} and goes on with the next mount`,
  )
  return EXIT.done
}

/** The daemon does not even answer: its own end first, then the kernel's. */
async function forceOut(registration: Registration, context: Context): Promise<ExitStatus> {
  const { supervisorPid, target } = registration
  process.kill(supervisorPid, 'SIGTERM')
  if (!(await hasEnded(registration, END_MS))) {
    await unmountFuse(target, { lazy: true }).catch(() => undefined)
    if (supervisorAlive(registration)) process.kill(supervisorPid, 'SIGKILL')
    await hasEnded(registration, END_MS)
  }
  context.print(
    `${target} is unmounted by force; what was not finished is safe in ${registration.stateDir} and goes on with the next mount`,
  )
  return EXIT.incomplete
}

const hangs = ({ stateDir }: Registration): string =>
  `the daemon has been waiting for a disk for ${(LOOKS * LOOK_MS) / 1000} s: the one with the state directory ${stateDir} does not answer; it goes on by itself when that does`

async function whatKeepsBusy(registration: Registration): Promise<string[]> {
  const { target, supervisorPid } = registration
  const users = await mountUsers(target, new Set([process.pid, supervisorPid]))
  const inside = parseMountinfo(readFileSync('/proc/self/mountinfo')).filter(
    ({ mountPoint }) => mountPoint !== target && isWithin(mountPoint, target),
  )
  return [
    ...users.map(asLine),
    ...inside.map(({ mountPoint, type }) => `in use: ${mountPoint} (${type}) is mounted inside`),
  ]
}
