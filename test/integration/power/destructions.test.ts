import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { reasonOf } from '../../../src/base/errors.ts'
import { compileShim } from '../../powercut/machine/shim.ts'
import { ROWS } from '../../powercut/run/rows.ts'

const HARNESS = fileURLToPath(new URL('../../powercut/main.ts', import.meta.url))

/** Why the harness cannot run here; undefined where it can. */
function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    compileShim()
    return undefined
  } catch (error) {
    return reasonOf(error)
  }
}

const why = whyNot()
let reports = ''

beforeAll(() => {
  reports = mkdtempSync(join(tmpdir(), 'ferryfs-power-cut-rows-'))
})

afterAll(() => rmSync(reports, { recursive: true, force: true }))

interface Ended {
  readonly status: unknown
  readonly output: string
}

function harness(row: string): Promise<Ended> {
  const args = [HARNESS, '--row', row, '--places', '1', '--report', reports, '--mounted', '0']
  return new Promise((done) =>
    execFile(process.execPath, args, { maxBuffer: 1 << 26 }, (error, output, complaints) =>
      done({ status: error ? error.code : 0, output: output + complaints }),
    ),
  )
}

describe.skipIf(why !== undefined)(
  `P1-P5: a power cut right behind what is destroyed breaks nothing${why === undefined ? '' : ` (${why})`}`,
  () => {
    test.each(Object.keys(ROWS))('%s', { timeout: 600_000 }, async (row) => {
      const { status, output } = await harness(row)
      expect(status, output).toBe(0)
    })
  },
)
