export { Rebuild } from './rebuild.ts'
export type { RebuildFailure } from './report.ts'
