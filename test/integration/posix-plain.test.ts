import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { programs, runInDirectory } from '../posix/programs.ts'
import { posixSuite } from '../posix/suite.ts'

// The reference: what the suites ask of a mount has to hold on a plain directory first. FERRYFS_POSIX_DIRECTORY names
// a directory of any other file system to run them in, which every user can reach.
const parent = process.env.FERRYFS_POSIX_DIRECTORY ?? tmpdir()
const directory = mkdtempSync(join(parent, 'ferryfs-posix-plain-'))
chmodSync(directory, 0o755)

posixSuite({ name: parent, directory: () => directory })

describe(`P1: real programs on ${parent}`, () => {
  test.each(programs)('$name', async (program) => {
    const { skipped, counts } = await runInDirectory(program, directory)
    if (skipped === undefined) for (const count of Object.values(counts)) expect(count).toBeGreaterThan(0)
  })
})

afterAll(() => rmSync(directory, { recursive: true }))
