import { globSync, readFileSync } from 'node:fs'

const SRC = new URL('../../src/', import.meta.url).pathname
const PUT_TOGETHER = /\$\{[^}]+\}/
const INTENTS = ['create', 'unlink', 'rename', 'link']

/** Names of all fault points in the sources. One that is put together stands for one of each kind of intent. */
export function faultPointsOfSources(): string[] {
  const found = new Set<string>()
  for (const path of globSync('**/*.ts', { cwd: SRC })) {
    for (const [, name = ''] of readFileSync(SRC + path, 'utf8').matchAll(
      /faultPoint\(\s*['`]([^'`]+)['`]/g,
    )) {
      const kinds = PUT_TOGETHER.test(name) ? INTENTS : ['']
      for (const kind of kinds) found.add(name.replace(PUT_TOGETHER, kind))
    }
  }
  return [...found].sort()
}
