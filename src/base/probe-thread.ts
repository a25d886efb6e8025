// A thread that writes a byte to the disk when it is told to, and tells when that has ended (base/write-probe.ts).
import { writeSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

const BYTE = Buffer.from([0])

parentPort?.on('message', (descriptor: number) => {
  try {
    writeSync(descriptor, BYTE, 0, 1, 0)
  } catch {
    // Of a disk that is full or fails, the commit tells.
  }
  parentPort?.postMessage('written')
})
