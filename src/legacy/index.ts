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
export type { KnownMounts, KnownVolume, LegacyPlace, MountedThere } from './places.ts'
export { isSameSource } from './source-identity.ts'
export {
  LegacyTree,
  isMissingDisk,
  NOT_MOUNTED,
  type QuietReads,
  type ReadBy,
  REMOVED,
  tellsMissingDisk,
} from './tree.ts'
