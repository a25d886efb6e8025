export { OpenWriters, writersBelow } from './open-writers.ts'
export {
  type FoundMark,
  hasMarkFile,
  isSameRoot,
  type OwnerMark,
  parseMark,
  readMark,
  removeMark,
  renewMark,
  rootIdentity,
  writeMark,
} from './owner-mark.ts'
export type {
  Followed,
  FoundDirectory,
  KnownMounts,
  KnownVolume,
  LegacyPlace,
  MountedThere,
} from './places.ts'
export { isSameSource } from './source-identity.ts'
export { isMissingDisk, NOT_MOUNTED, tellsMissingDisk } from './missing-disk.ts'
export { REMOVED } from './removed.ts'
export { LegacyTree, type QuietReads, type ReadBy } from './tree.ts'
