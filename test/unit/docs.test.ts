import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const PAGES = globSync(['*.md', 'docs/*.md', '.github/**/*.md'])

/** The anchor that a heading gets (as the usual hosts make it). */
function anchorOf(heading: string): string {
  const text = heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
  return text.trim().replaceAll(/\s/g, '-')
}

function anchorsOf(page: string): Set<string> {
  const headings = readFileSync(page, 'utf8').matchAll(/^#+ (.*)$/gm)
  return new Set([...headings].map(([, heading = '']) => anchorOf(heading)))
}

test.each(PAGES)('%s: what it links to is there', (page) => {
  const links = readFileSync(page, 'utf8').matchAll(/\]\(([^)\s]+)\)/g)
  const dead: string[] = []
  for (const [, link = ''] of links) {
    if (/^[a-z]+:/.test(link)) continue
    const [path = '', anchor] = link.split('#')
    const target = path === '' ? page : join(dirname(page), path)
    if (!existsSync(target) || (anchor !== undefined && !anchorsOf(target).has(anchor))) dead.push(link)
  }
  expect(dead).toEqual([])
})

// `src/base/modes.ts`, `test/chaos/faults/`, also where only the file's own folders are named from src/ on (`overlay/marks.ts`).
const NAMED = /`((?:[\w.-]+\/)+[\w.-]*)`/g
const ROOTS = ['', 'src', 'test']
const OF_THE_PROJECT = /^(src|test|examples|scripts|docs|\.github)\/|\.(ts|mjs|md)$/

test.each(PAGES)('%s: the files that it names are there', (page) => {
  const named = [...readFileSync(page, 'utf8').matchAll(NAMED)].map(([, path = '']) => path)
  const dead = named.filter(
    (path) =>
      OF_THE_PROJECT.test(path) && !/NAME/.test(path) && !ROOTS.some((root) => existsSync(join(root, path))),
  )
  expect(dead).toEqual([])
})

// | behaviour | … | `test/…`: *the name of a test*; … |
const TESTED = /`(test\/[\w./-]+\.ts)`: \*([^*]+)\*/g

test('docs/posix.md: every row of the table names its tests, and they are there', () => {
  const [, table = ''] = readFileSync('docs/posix.md', 'utf8').split('## Behaviour by behaviour')
  const rows = [...(table.split('\n## ')[0] ?? '').matchAll(/^\| (.*) \|$/gm)].slice(1)
  expect(rows.length).toBeGreaterThan(30)
  const missing = rows.flatMap(([, row = '']) => {
    const named = [...row.matchAll(TESTED)]
    const dead = named.filter(([, path = '', name = '']) => !readFileSync(path, 'utf8').includes(name))
    return named.length === 0 ? [row] : dead.map(([test]) => test)
  })
  expect(missing).toEqual([])
})
