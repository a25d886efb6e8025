import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { BROKEN, SCALED } from '../powercut/broken/mutations.ts'
import { ROWS } from '../powercut/run/rows.ts'

const DOCUMENT = new URL('../../docs/crash-points.md', import.meta.url)

/** First cells of the table under a heading. */
function firstCells(heading: string): string[] {
  const [, section = ''] = readFileSync(DOCUMENT, 'utf8').split(`\n## ${heading}\n`)
  const [text = ''] = section.split('\n## ')
  const cells = Array.from(text.matchAll(/^\| (.+?) \|/gm), ([, cell = '']) => cell)
  return cells.slice(1)
}

test('P2, P3: every step that destroys something has a script that the power is cut in right behind it', () => {
  const told = firstCells('After a power cut')
  expect(told.length).toBeGreaterThan(10)
  expect(Object.keys(ROWS).sort()).toEqual(told.sort())
})

test('what the power-cut harness replaces in a source is there, once', () => {
  const mutations = [...SCALED, ...Object.values(BROKEN).flatMap((broken) => broken.mutations)]
  const wrong = mutations.filter(({ file, from }) => {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
    return text.split(from).length !== 2
  })
  expect(wrong.map(({ file, from }) => `${file}: ${from}`)).toEqual([])
})
