import { readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeDirectories } from '../base/private.ts'
import { type SettingTexts, settingTextsIn } from '../config/mount-command.ts'
import { ownersDirectory, rememberedFile } from '../config/paths.ts'
import { isSameRoot, type OwnerMark, parseMark } from '../legacy/index.ts'
import { readJsonObject, replaceFile } from './files.ts'

/** What the machine remembers of the last mount at a TARGET; enough to take it up again. */
export interface Remembered {
  readonly target: string
  readonly source: string
  readonly stateDir: string
  readonly settings: SettingTexts
}

/** @throws the error of a file system that does not take it */
export function remember(mount: Remembered, environment: NodeJS.ProcessEnv): void {
  const file = rememberedFile(environment, mount.target)
  makeDirectories(dirname(file), 0o700)
  replaceFile(file, { format: 1, ...mount })
}

/** Undefined if nothing was ever mounted there, or was forgotten. */
export function recall(target: string, environment: NodeJS.ProcessEnv): Remembered | undefined {
  const found = readRemembered(rememberedFile(environment, target))
  return found?.target === target ? found : undefined
}

/** All that the machine remembers. */
export function rememberedMounts(environment: NodeJS.ProcessEnv): Remembered[] {
  const directory = dirname(rememberedFile(environment, '/'))
  return jsonFilesIn(directory).flatMap((file) => readRemembered(file) ?? [])
}

export function forgetRemembered(target: string, environment: NodeJS.ProcessEnv): void {
  rmSync(rememberedFile(environment, target), { force: true })
}

function readRemembered(file: string): Remembered | undefined {
  try {
    const { target, source, stateDir, settings } = readJsonObject(file)
    if (typeof target === 'string' && typeof source === 'string' && typeof stateDir === 'string') {
      return { target, source, stateDir, settings: settingTextsIn(settings) }
    }
  } catch {
    // Not there, or half of one: as good as none.
  }
  return undefined
}

/**
 * Who owns a SOURCE that is not written to (--source-readonly), in the place of a mark on it; and the rest of what a mark
 * says that had no room for more than an id.
 */
export function recordOwner(mark: OwnerMark, environment: NodeJS.ProcessEnv): void {
  const directory = ownersDirectory(environment)
  makeDirectories(directory, 0o700)
  replaceFile(ownerFile(directory, mark.id), { format: 1, ...mark })
}

/** The recorded owners of this very directory; where its file system keeps no time of birth, its path has to be the same. */
export function ownersOf(
  source: string,
  root: OwnerMark['root'],
  environment: NodeJS.ProcessEnv,
): OwnerMark[] {
  return owners(environment).filter(
    (mark) => isSameRoot(mark.root, root) && (root.btimeNs !== '0' || mark.source === source),
  )
}

/** What is recorded under the id of a state directory. */
export function ownerById(id: string, environment: NodeJS.ProcessEnv): OwnerMark | undefined {
  return owners(environment).find((mark) => mark.id === id)
}

export function forgetOwner(id: string, environment: NodeJS.ProcessEnv): void {
  rmSync(ownerFile(ownersDirectory(environment), id), { force: true })
}

function ownerFile(directory: string, id: string): string {
  return join(directory, `${id.replaceAll(/[^\w-]/g, '_')}.json`)
}

function owners(environment: NodeJS.ProcessEnv): OwnerMark[] {
  return jsonFilesIn(ownersDirectory(environment)).flatMap((file) => {
    try {
      const found = parseMark(readJsonObject(file))
      return found.kind === 'whole' ? found.mark : []
    } catch {
      return []
    }
  })
}

function jsonFilesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(directory, name))
  } catch {
    // Nothing was ever recorded.
    return []
  }
}
