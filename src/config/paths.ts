import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

/**
 * Where a mount keeps its state unless told: one directory for each (real) SOURCE, wherever that is served. What an older
 * ferryfs made for this pair of SOURCE and TARGET is used as it is.
 */
export function defaultStateDir(source: string, target: string, environment: NodeJS.ProcessEnv): string {
  const root = defaultStateRoot(environment)
  const ofPair = join(root, shortHash(`${source}\0${target}`))
  const ofSource = join(root, shortHash(source))
  return existsSync(ofPair) && !existsSync(ofSource) ? ofPair : ofSource
}

/**
 * The parent of the default state directories and of what the machine remembers: FERRYFS_STATE_ROOT, else /var/lib for root,
 * else by the XDG base directory rules.
 */
export function defaultStateRoot(environment: NodeJS.ProcessEnv): string {
  if (environment.FERRYFS_STATE_ROOT) return environment.FERRYFS_STATE_ROOT
  if (process.getuid?.() === 0) return '/var/lib/ferryfs'
  return join(environment.XDG_STATE_HOME || join(homedir(), '.local/state'), 'ferryfs')
}

/** What the machine remembers of a mount after it ended, to take it up by TARGET alone. */
export function rememberedFile(environment: NodeJS.ProcessEnv, target: string): string {
  return join(defaultStateRoot(environment), 'mounts', `${shortHash(target)}.json`)
}

/** Where the machine records who owns a SOURCE that is never written to. */
export function ownersDirectory(environment: NodeJS.ProcessEnv): string {
  return join(defaultStateRoot(environment), 'owners')
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
