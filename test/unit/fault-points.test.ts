import { globSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { faultPointsOfSources } from '../support/fault-points.ts'

const ROOT = new URL('../../', import.meta.url).pathname

/** The names that a file has in quotes, a list or a table of it. */
const namesIn = (path: string, quote: RegExp): Set<string> =>
  new Set(Array.from(readFileSync(ROOT + path, 'utf8').matchAll(quote), ([, name = '']) => name))

test('P7: every fault point has a scenario by its name', () => {
  const tests = globSync('test/{unit,integration}/**/*crash-points*.test.ts', { cwd: ROOT })
  const tried = new Set(tests.flatMap((path) => [...namesIn(path, /['`]([a-z-]+(?:\.[a-z-]+)+)/g)]))
  expect(faultPointsOfSources().filter((point) => !tried.has(point))).toEqual([])
})

test('every fault point, and nothing else, is in the table of docs/crash-points.md', () => {
  const told = namesIn('docs/crash-points.md', /^\| `([a-z-]+\.[a-z.-]+)`/gm)
  expect([...told].sort()).toEqual(faultPointsOfSources())
})
