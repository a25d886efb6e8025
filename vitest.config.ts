import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/support/sequencer.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // What the machine remembers of mounts is not this machine's business.
    // Daemons start hundreds of times: what V8 made of their modules is kept for the next.
    env: {
      FERRYFS_STATE_ROOT: join(tmpdir(), 'ferryfs-test-machine'),
      NODE_COMPILE_CACHE: join(tmpdir(), 'ferryfs-test-compile-cache'),
    },
    setupFiles: ['test/support/seed.ts', 'test/support/compare-buffers.ts'],
    pool: 'forks',
    // A real mount, a daemon start and a kill each take their time on two cores; a test that
    // hangs is ended by this bound, never by the machine's patience.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Nothing is measured by it: how long something may take to come about on a loaded machine.
    expect: { poll: { timeout: 30_000 } },
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    reporters: ['default'],
  },
})
