import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { UsageError } from '../base/errors.ts'
import { probePath } from './probe.ts'
import { findRegistration, type Registration } from './registry.ts'

// A path that does not resolve by then lies on a mount that hangs.
const RESOLVE_MS = 5_000

/**
 * The names by which a mount on `path` may be recorded, most likely first. TARGET itself may hang, so it is touched last
 * and only from another process.
 */
export async function* namesOf(path: string): AsyncGenerator<string> {
  const absolute = resolve(path)
  yield absolute
  const parent = await probePath(dirname(absolute), RESOLVE_MS)
  if (parent.kind === 'directory') yield join(parent.realPath, basename(absolute))
  const itself = await probePath(absolute, RESOLVE_MS)
  if (itself.kind === 'directory') yield itself.realPath
}

/** The real path that mount(8) would show for TARGET, without touching what is mounted there. */
export async function mountPath(path: string): Promise<string> {
  const absolute = resolve(path)
  const parent = await probePath(dirname(absolute), RESOLVE_MS)
  return parent.kind === 'directory' ? join(parent.realPath, basename(absolute)) : absolute
}

/** The record of the mount on TARGET, live or dead. */
export async function locate(target: string, runDir: string): Promise<Registration | undefined> {
  for await (const name of namesOf(target)) {
    const found = findRegistration(runDir, name)
    if (found) return found
  }
  return undefined
}

export function nothingMounted(target: string): UsageError {
  return new UsageError(
    `nothing is mounted by ferryfs at ${resolve(target)}; "ferryfs mount SOURCE ${target}" does that`,
  )
}

/**
 * The real path of something that may not be there yet: that of the nearest directory above it that is, and the rest.
 * @throws UsageError if it lies on something that is no directory or does not answer
 */
export async function realPathOfNew(path: string): Promise<string> {
  const absolute = resolve(path)
  const missing: string[] = []
  for (let at = absolute; ; at = dirname(at)) {
    const found = await probePath(at, RESOLVE_MS)
    if (found.kind === 'directory') return join(found.realPath, ...missing)
    if (found.kind === 'other' && missing.length === 0) return found.realPath
    if (found.kind !== 'error' || found.code !== 'ENOENT') {
      const why =
        found.kind === 'error' ? inWords(found.code) : found.kind === 'hung' ? 'no answer' : 'not a directory'
      throw new UsageError(`${absolute} cannot be used: ${at}: ${why}`)
    }
    missing.unshift(basename(at))
  }
}

const inWords = (code: string): string =>
  code === 'EILSEQ' ? 'it leads to a name that is not valid UTF-8' : code

/**
 * Whether a path, which may not be there yet, or a directory above it is that very directory, whatever both are called: where a
 * volume folds case, `A` and `a` are two real paths of one.
 */
export async function isBelow(path: string, directory: string): Promise<boolean> {
  const wanted = await identityOf(directory)
  for (let at = path; wanted !== undefined; at = dirname(at)) {
    if ((await identityOf(at)) === wanted) return true
    if (dirname(at) === at) break
  }
  return false
}

/** Undefined where nothing is there that can be seen. Never keeps the calling thread waiting for the volume. */
async function identityOf(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined)
  return found && `${found.dev}:${found.ino}`
}
