import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * The file with which a process or a thread of ours starts, by its path below src/: .ts from the sources, .js once built.
 * Everything that is built lies one directory below the root, as this module does (scripts/build.mjs).
 */
export function entryPoint(path: string): string {
  return fileURLToPath(new URL(`../${path}${extname(import.meta.url)}`, import.meta.url))
}
