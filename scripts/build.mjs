// Makes dist/ from src/: one file for each process and thread of ferryfs, and what they share in dist/chunks. A process
// starts in half the time that it takes to look for hundreds of modules, and a worker's start is what applications wait
// for where one has died. Types are checked elsewhere (npm run types).
import { rm } from 'node:fs/promises'
import { build } from 'esbuild'

// A module finds these beside it: src/X/NAME.ts, or dist/X/NAME.js from dist/chunks.
const ENTRIES = [
  'src/cli/main.ts',
  'src/daemon/supervisor-main.ts',
  'src/daemon/worker.ts',
  'src/base/checkpoint-thread.ts',
  'src/sys/disk-thread.ts',
]

// These load files of their own at run time, or are loaded as CommonJS.
const EXTERNAL = [
  'basho-riak-client',
  'cli-progress',
  'cockatiel',
  'commander',
  'fuse-native',
  'koffi',
  'pino',
  'prom-client',
]

await rm('dist', { recursive: true, force: true })
await build({
  entryPoints: ENTRIES,
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'chunks/[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22.22',
  external: EXTERNAL,
  sourcemap: true,
  legalComments: 'none',
  logLevel: 'warning',
})
