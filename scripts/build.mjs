// Makes dist/ from src/: one file for each process and thread of ferryfs, and what they share in dist/chunks. A process
// starts in half the time that it takes to look for hundreds of modules, and a worker's start is what applications wait
// for where one has died. Types are checked elsewhere (npm run types).
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'

// A module finds these beside it: src/X/NAME.ts, or dist/X/NAME.js from dist/chunks.
const ENTRIES = [
  'src/cli/main.ts',
  'src/daemon/supervisor-main.ts',
  'src/daemon/worker.ts',
  'src/base/checkpoint-thread.ts',
  'src/base/probe-thread.ts',
  'src/sys/disk-thread.ts',
]

// Nearly a hundred modules. The other packages load files of their own at run time, or are CommonJS.
const BUNDLED = ['zod']

const { dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
const { metafile } = await build({
  entryPoints: ENTRIES,
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'chunks/[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22.22',
  external: Object.keys(dependencies).filter((name) => !BUNDLED.includes(name)),
  sourcemap: true,
  legalComments: 'none',
  logLevel: 'warning',
  metafile: true,
})
// What an earlier build left goes last: a mount may be up, whose next worker and threads start from here.
for (const entry of await readdir('dist', { recursive: true, withFileTypes: true })) {
  const path = join(entry.parentPath, entry.name)
  if (entry.isFile() && !(path in metafile.outputs)) await rm(path)
}
