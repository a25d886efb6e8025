import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { posixSuite } from '../posix/suite.ts'

// The reference: what the suites ask of a mount has to hold on a plain directory first.
const directory = mkdtempSync(join(tmpdir(), 'ferryfs-posix-plain-'))
chmodSync(directory, 0o755)

posixSuite({ name: 'a plain directory', directory: () => directory })

afterAll(() => rmSync(directory, { recursive: true }))
