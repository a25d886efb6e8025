import { expect, test } from 'vitest'
import { faultPointsOfSources } from '../../support/fault-points.ts'
import { FAULT_POINTS, POINTS_OF_OTHER_TIMES } from './points.ts'

test('P7: the chaos run kills at every fault point that a serving worker passes', () => {
  expect([...FAULT_POINTS, ...POINTS_OF_OTHER_TIMES].sort()).toEqual(faultPointsOfSources())
})
