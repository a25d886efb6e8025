import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { programs, runInDirectory } from '../posix/programs.ts'
import { posixSuite } from '../posix/suite.ts'

// The reference: what the suites ask of a mount has to hold on a plain directory first.
const directory = mkdtempSync(join(tmpdir(), 'ferryfs-posix-plain-'))
chmodSync(directory, 0o755)

posixSuite({ name: 'a plain directory', directory: () => directory })

describe('P1: real programs on a plain directory', () => {
  test.each(programs)('$name', async (program) => {
    const { skipped, counts } = await runInDirectory(program, directory)
    if (skipped === undefined) for (const count of Object.values(counts)) expect(count).toBeGreaterThan(0)
  })
})

afterAll(() => rmSync(directory, { recursive: true }))
