import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf, UsageError } from '../base/errors.ts'
import { makeDirectories } from '../base/private.ts'
import { registryFile } from '../config/paths.ts'
import { readJsonObject, replaceFile } from './files.ts'
import { isRunning, startTicks } from './process.ts'

/** Where a running mount is to be found; one file for each TARGET in the run directory. */
export interface Registration {
  readonly target: string
  readonly source: string
  readonly stateDir: string
  readonly socket: string
  readonly supervisorPid: number
  readonly supervisorTicks: number
}

/**
 * Makes the run directory. One in /tmp could have been put there by somebody else, who would then direct our commands.
 * @throws UsageError
 */
export function makeRunDirectory(runDir: string): void {
  try {
    makeDirectories(runDir, 0o755)
    const { uid, mode } = statSync(runDir)
    if (uid === process.getuid?.() && (mode & 0o022) === 0) return
  } catch (error) {
    throw new UsageError(
      `the run directory ${runDir} cannot be used: ${reasonOf(error)}; set FERRYFS_RUN_DIR to another`,
      2,
      { cause: error },
    )
  }
  throw new UsageError(
    `the run directory ${runDir} belongs to somebody else or is writable for others; set FERRYFS_RUN_DIR to another`,
  )
}

/** Records the calling process as the supervisor of a mount. */
export function register(
  runDir: string,
  entry: Omit<Registration, 'supervisorPid' | 'supervisorTicks'>,
): void {
  const registration: Registration = {
    ...entry,
    supervisorPid: process.pid,
    supervisorTicks: startTicks(process.pid) ?? 0,
  }
  replaceFile(registryFile(runDir, entry.target), { ...registration })
}

/** Takes the calling process's own record away; a successor's on the same TARGET stays. */
export function unregister(runDir: string, target: string): void {
  if (findRegistration(runDir, target)?.supervisorPid === process.pid) {
    rmSync(registryFile(runDir, target), { force: true })
  }
}

/** The record for a TARGET, of a live daemon or of one that was killed; undefined if there is none to be read. */
export function findRegistration(runDir: string, target: string): Registration | undefined {
  const found = readRegistration(registryFile(runDir, target))
  return found?.target === target ? found : undefined
}

/** All records of a run directory, of live daemons and of dead ones. */
export function registrations(runDir: string): Registration[] {
  try {
    return readdirSync(runDir)
      .filter((name) => name.endsWith('.json'))
      .flatMap((name) => readRegistration(join(runDir, name)) ?? [])
  } catch {
    // Nothing was ever mounted from here.
    return []
  }
}

function readRegistration(file: string): Registration | undefined {
  try {
    const { target, source, stateDir, socket, supervisorPid, supervisorTicks } = readJsonObject(file)
    if (
      typeof target === 'string' &&
      typeof source === 'string' &&
      typeof stateDir === 'string' &&
      typeof socket === 'string' &&
      typeof supervisorPid === 'number' &&
      typeof supervisorTicks === 'number'
    ) {
      return { target, source, stateDir, socket, supervisorPid, supervisorTicks }
    }
  } catch {
    // Not there, or half of one that a crash of the machine left: as good as none.
  }
  return undefined
}

export function supervisorAlive(registration: Registration): boolean {
  return isRunning(registration.supervisorPid, registration.supervisorTicks)
}
