import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const DOCUMENT = new URL('../../docs/security.md', import.meta.url)

/** Sentence, file and words of the test's name, of every row. */
function rows(): { sentence: string; file: URL; words: string }[] {
  const text = readFileSync(DOCUMENT, 'utf8')
  return Array.from(
    text.matchAll(/^\| (.+?) \| `(.+?)`: ?(.*?) \|$/gm),
    ([, sentence = '', file = '', words = '']) => ({
      sentence,
      file: new URL(`../${file}`, import.meta.url),
      words,
    }),
  )
}

test('every sentence of the security page has a test that is there', () => {
  const found = rows()
  const lines = readFileSync(DOCUMENT, 'utf8').split('\n')
  const told = lines.filter((line) => line.startsWith('| ') && !line.startsWith('| sentence'))
  expect(found.length).toBeGreaterThan(20)
  expect(found.map(({ sentence }) => sentence)).toEqual(told.map((line) => line.split(' | ')[0]?.slice(2)))
  const missing = found.filter(
    ({ file, words }) => words === '' || !existsSync(file) || !readFileSync(file, 'utf8').includes(words),
  )
  expect(missing.map(({ sentence }) => sentence)).toEqual([])
})
