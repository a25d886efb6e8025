/** The promises of the product that a crash state can break. */
export type PromiseName = 'P1' | 'P2' | 'P3' | 'P4' | 'P5' | 'P6'

const BY_KIND: Readonly<Record<string, PromiseName>> = {
  zeros: 'P1',
  'wrong bytes': 'P1',
  size: 'P1',
  'changed by itself': 'P1',
  'shown otherwise before': 'P1',
  names: 'P2',
  attributes: 'P2',
  unreadable: 'P2',
  'not listed': 'P2',
  start: 'P4',
  owed: 'P4',
  request: 'P4',
  volume: 'P5',
  'source touched': 'P5',
  'store alone': 'P5',
}

/** The promise that a violation of this kind breaks. */
export function promiseOf(kind: string): PromiseName {
  return BY_KIND[kind] ?? (kind.startsWith('rebuild') ? 'P5' : 'P2')
}
