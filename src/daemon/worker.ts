import { startEngine } from './compose.ts'
import { serveWorker } from './worker-process.ts'

serveWorker(startEngine)
