export { type LegacyPlace, LegacyTree } from './tree.ts'
