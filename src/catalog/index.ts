export { Catalog, type Dirent } from './catalog.ts'
export * from './inode.ts'
export type { Garbage, Work } from './outbox.ts'
export { isStored } from './totals.ts'
