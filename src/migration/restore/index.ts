export { Destination } from './destination.ts'
export { type Finding, RestoreStopped } from './findings.ts'
export { Restore, type RestoreOptions, type RestoreResult } from './restore.ts'
export { ALL, selectionOf } from './selection.ts'
export {
  type FileRef,
  type FileState,
  SourceError,
  type SourceTree,
  type TreeChunk,
  type TreeEntry,
  type TreeFile,
  type TreePage,
  type TreeTotals,
} from './tree.ts'
