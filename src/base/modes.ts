/** The five modes, in the order of a migration. */
export const MODES = ['observe', 'mirror', 'prefer-store', 'drain', 'store-only'] as const
export type Mode = (typeof MODES)[number]

/**
 * What a mode means. Code asks the policy, never the mode.
 */
export interface Policy {
  /** Which side a read is tried on first. */
  readonly readFrom: 'legacy' | 'store'
  /** Where a change takes effect before it is acknowledged. */
  readonly writeTo: 'legacy' | 'store'
  /** Content goes to the store at all (read or changed files, the mover). */
  readonly copies: boolean
  /** Legacy files are removed once verified in the store (P3). */
  readonly removesLegacy: boolean
  /** The legacy volume must be there. */
  readonly needsLegacy: boolean
}

const POLICIES: Readonly<Record<Mode, Policy>> = {
  observe: { readFrom: 'legacy', writeTo: 'legacy', copies: false, removesLegacy: false, needsLegacy: true },
  mirror: { readFrom: 'legacy', writeTo: 'legacy', copies: true, removesLegacy: false, needsLegacy: true },
  'prefer-store': {
    readFrom: 'store',
    writeTo: 'legacy',
    copies: true,
    removesLegacy: false,
    needsLegacy: true,
  },
  drain: { readFrom: 'store', writeTo: 'store', copies: true, removesLegacy: true, needsLegacy: true },
  'store-only': {
    readFrom: 'store',
    writeTo: 'store',
    copies: true,
    removesLegacy: false,
    needsLegacy: false,
  },
}

/** The policy of a mode; `sourceReadonly` keeps every mode's hands off the legacy volume. */
export function policyOf(mode: Mode, sourceReadonly: boolean): Policy {
  const policy = POLICIES[mode]
  return sourceReadonly ? { ...policy, writeTo: 'store', removesLegacy: false } : policy
}

export function isMode(text: string): text is Mode {
  return (MODES as readonly string[]).includes(text)
}
