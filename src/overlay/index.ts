export type { OverlayContext } from './context.ts'
export { newInode, type Resolved } from './names.ts'
export { Overlay } from './overlay.ts'
export { recover, recoverToRead } from './recovery.ts'
