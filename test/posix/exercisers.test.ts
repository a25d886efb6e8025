import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { fsxExerciser } from '../support/posix/fsx.ts'
import { type HookStep, runScript, StepFailure } from '../support/posix/scripts.ts'
import { treeExerciser } from '../support/posix/tree.ts'

const directory = mkdtempSync(join(tmpdir(), 'ferryfs-exercisers-'))
chmodSync(directory, 0o755)
const reference = join(directory, 'reference')
const tested = join(directory, 'tested')
for (const path of [reference, tested]) mkdirSync(path)

// FERRYFS_POSIX_SEED=n runs one seed that failed somewhere else.
const seeds = process.env.FERRYFS_POSIX_SEED === undefined ? [1, 2] : [Number(process.env.FERRYFS_POSIX_SEED)]

afterAll(() => rmSync(directory, { recursive: true }))

/** Every file below a directory, whatever the bytes of its name. */
function below(directory: Buffer): Buffer[] {
  return readdirSync(directory, { withFileTypes: true, encoding: 'buffer' }).flatMap((entry) => {
    const path = Buffer.concat([directory, Buffer.from('/'), entry.name])
    if (entry.isDirectory()) return below(path)
    return entry.isFile() ? [path] : []
  })
}

describe('P1: the exercisers agree with a plain directory', () => {
  test.each(seeds)('fsx, seed %i', async (seed) => {
    const { counts, bytesCompared } = await fsxExerciser({ directory: tested, seed, operations: 300 })
    expect(Object.keys(counts).length).toBeGreaterThan(10)
    expect(bytesCompared).toBeGreaterThan(1_000_000)
  })

  test('fsx with files larger than a chunk', async () => {
    const large = { maxSize: 3 << 20, maxLength: 1_200_000 }
    await fsxExerciser({ directory: tested, seed: 11, operations: 60, files: 3, ...large })
  })

  test.each(seeds)('two trees in step, seed %i', async (seed) => {
    const { counts, entries } = await treeExerciser({ reference, directory: tested, seed, operations: 400 })
    expect(entries).toBeGreaterThan(10)
    for (const kind of ['create', 'mkdir', 'rename', 'write', 'link', 'setxattr', 'useOpen']) {
      expect(counts[kind]?.succeeded, kind).toBeGreaterThan(0)
    }
  })

  test('descriptors are let go where a hook wants to unmount', async () => {
    const hooks = {
      async between({ index, release }: HookStep) {
        if (index % 50 === 49) await release()
      },
    }
    await fsxExerciser({ directory: tested, seed: 5, operations: 200, hooks })
    await treeExerciser({ reference, directory: tested, seed: 5, operations: 200, compareEvery: 10, hooks })
  })
})

describe('P1: the exercisers see what is wrong', () => {
  test('one changed byte', async () => {
    const hooks = {
      between({ index }: HookStep) {
        if (index !== 150) return
        for (const path of below(Buffer.from(tested))) {
          const fd = openSync(path, 'r+')
          writeSync(fd, Buffer.from('wrong'), 0, 5, 100)
          closeSync(fd)
        }
      },
    }
    const run = fsxExerciser({ directory: tested, seed: 1, operations: 400, hooks })
    await expect(run).rejects.toThrow(
      /fsx failed at step 1[5-9]\d of 400, seed 1, .*not [0-9a-f]+…|the size is/s,
    )
  })

  test('one lost file, one file too many', async () => {
    for (const [change, message] of [
      [unlinkSync, /is missing/],
      [
        (path: Buffer) => linkSync(path, `${tested}/${readdirSync(tested)[0]}/left-over`),
        /should not be there/,
      ],
    ] as const) {
      const hooks = {
        between({ index }: HookStep) {
          const [path] = below(Buffer.from(tested))
          if (index === 150 && path !== undefined) change(path)
        },
      }
      const run = treeExerciser({ reference, directory: tested, seed: 2, operations: 160, hooks })
      await expect(run).rejects.toThrow(message)
    }
  })

  test('a failing script is shrunk to the operations that matter', async () => {
    const operation = fc.record({ kind: fc.constantFrom('a', 'b', 'c', 'd', 'e'), value: fc.nat(1000) })
    const run = runScript({
      name: 'example',
      operation,
      seed: 7,
      operations: 300,
      replay: undefined,
      shrinkMs: 10_000,
      async run(script) {
        let armed = false
        for (const [index, { kind, value }] of script.entries()) {
          if (kind === 'b' && value > 500) armed = true
          if (kind === 'd' && armed) throw new StepFailure(index, 'd after b')
        }
      },
    })
    await expect(run).rejects.toThrow(
      'd after b\n2 operations are enough; replay: [{"kind":"b","value":501},{"kind":"d","value":0}]',
    )
  })
})
