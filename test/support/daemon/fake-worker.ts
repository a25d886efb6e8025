import { serveWorker } from '../../../src/daemon/worker-process.ts'
import { startFakeEngine } from './fake-engine.ts'

// A worker process whose engine is a fake: the daemon and the commands are tried without store and catalog.
serveWorker(startFakeEngine)
