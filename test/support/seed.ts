import fc from 'fast-check'

/** Of everything that is drawn where CI runs: the same code gets the same answer there. Elsewhere every run draws anew. */
export const CI_SEED = process.env.CI === undefined ? undefined : 2026

if (CI_SEED !== undefined) fc.configureGlobal({ seed: CI_SEED })
