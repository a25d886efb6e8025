import { startEngine } from '../../../src/daemon/compose.ts'
import { serveWorker } from '../../../src/daemon/worker-process.ts'
import { BROKEN } from './overlays.ts'

// The product's worker with one promise broken in it: which one says an environment variable that only this file reads.
const name = process.env.FERRYFS_CHAOS_BROKEN ?? ''
if (name !== 'nothing') {
  const broken = BROKEN[name]
  if (!broken) throw new Error(`FERRYFS_CHAOS_BROKEN=${name}: one of ${Object.keys(BROKEN).join(', ')}`)
  broken()
}
serveWorker(startEngine)
