import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

/** Where a mount keeps its state unless told: one directory for each pair of (real) SOURCE and TARGET. */
export function defaultStateDir(source: string, target: string, environment: NodeJS.ProcessEnv): string {
  return join(defaultStateRoot(environment), shortHash(`${source}\0${target}`))
}

/** The parent of the default state directories: /var/lib for root, else by the XDG base directory rules. */
export function defaultStateRoot(environment: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/ferryfs'
  return join(environment.XDG_STATE_HOME || join(homedir(), '.local/state'), 'ferryfs')
}

/** Where running mounts are recorded so that a command finds them by TARGET; gone after a reboot. */
export function runDirectory(environment: NodeJS.ProcessEnv): string {
  if (environment.FERRYFS_RUN_DIR) return environment.FERRYFS_RUN_DIR
  if (process.getuid?.() === 0 && existsSync('/run')) return '/run/ferryfs'
  if (environment.XDG_RUNTIME_DIR) return join(environment.XDG_RUNTIME_DIR, 'ferryfs')
  return join(tmpdir(), `ferryfs-${process.getuid?.() ?? 0}`)
}

export function registryFile(runDir: string, target: string): string {
  return join(runDir, `${shortHash(target)}.json`)
}

// sun_path of a Unix socket address holds 108 bytes, the last of them NUL (unix(7)).
const MAX_SOCKET_PATH_BYTES = 107

/** The control socket: in the state directory, or in the run directory where that path is too long for an address. */
export function controlSocket(stateDir: string, runDir: string): string {
  const path = join(stateDir, 'control.sock')
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES ? path : join(runDir, `${shortHash(stateDir)}.sock`)
}
