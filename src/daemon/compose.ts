import type { RebuildState, StartEngine } from './connection.ts'

/** The worker's inside out of catalog, store, content, overlay, migration and transport. */
export const startEngine: StartEngine = () => {
  throw new Error('the engine is not composed in this build')
}

/** The catalog out of the store. */
export const rebuildState: RebuildState = () => {
  throw new Error('the engine is not composed in this build')
}
