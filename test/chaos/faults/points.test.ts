import { globSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { FAULT_POINTS } from './points.ts'

const SRC = new URL('../../../src/', import.meta.url).pathname

const PUT_TOGETHER = /\$\{intent\.kind\}/

test('P7: the chaos run kills at every fault point that the sources have', () => {
  const found = new Set<string>()
  for (const path of globSync('**/*.ts', { cwd: SRC })) {
    for (const [, name] of readFileSync(SRC + path, 'utf8').matchAll(
      /faultPoint\(\s*['`]([^'`]+)['`]\s*\)/g,
    )) {
      if (name !== undefined) found.add(name)
    }
  }
  // A name that is put together stands for one of each kind of intent.
  const kinds = ['create', 'unlink', 'rename', 'link']
  const names = [...found].flatMap((name) =>
    PUT_TOGETHER.test(name) ? kinds.map((kind) => name.replace(PUT_TOGETHER, kind)) : [name],
  )
  expect([...FAULT_POINTS].sort()).toEqual(names.sort())
})
