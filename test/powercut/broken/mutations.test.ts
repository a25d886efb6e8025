import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { BROKEN, type Mutation, SCALED } from './mutations.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const isOnce = ({ file, from }: Mutation): boolean =>
  readFileSync(ROOT + file, 'utf8').split(from).length === 2

// A broken product that is not the one that was meant says nothing of the harness.
describe('P1-P5: what the power-cut harness changes in the product is there', () => {
  test('for all scripts', () => {
    expect(SCALED.filter((mutation) => !isOnce(mutation))).toEqual([])
  })

  test.each(Object.entries(BROKEN))('in the broken product %s', (_, { mutations }) => {
    expect(mutations.filter((mutation) => !isOnce(mutation))).toEqual([])
  })
})
