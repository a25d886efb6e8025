import { execFile } from 'node:child_process'
import { linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'

const run = promisify(execFile)

describeMounted('a program that knows nothing but docs/store-format.md', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test('P5: reads the tree out of the store', async () => {
    mkdirSync(ferry.under('many/below'), { recursive: true })
    // More names than one shard has.
    writeFileSync(ferry.under('name 0'), 'a file with many names')
    for (let n = 1; n < 1100; n += 1) linkSync(ferry.under('name 0'), ferry.under(`many/name ${n}`))
    writeFileSync(Buffer.concat([Buffer.from(ferry.under('many/')), Buffer.from([0xff, 0x41])]), 'no text')
    writeFileSync(ferry.under('many/below/100 %'), pattern(2_500_000, 1), { mode: 0o600 })
    const sparse = ferry.under('many/below/sparse')
    writeFileSync(sparse, pattern(5000, 2))
    truncateSync(sparse, 1025 * 1024 * 1024)
    writeFileSync(sparse, 'the end', { flag: 'a' })
    await ferry.call.link(ferry.under('many/below/100 %'), ferry.under('second name'))
    symlinkSync('many', ferry.under('link'))
    const before = await ferry.call.snapshot(ferry.source)
    await ferry.mount()
    for (const command of [
      ['migrate', ferry.target, '--wait'],
      ['unmount', ferry.target],
    ])
      expect(await ferry.ferryfs(...command)).toMatchObject({ status: 0 })
    const dest = join(ferry.root, 'dest')
    const reader = ['examples/read-store.ts', join(ferry.stateDir, 'store/ferryfs'), dest]
    await run(execPath, ['--disable-warning=ExperimentalWarning', ...reader])
    // Times are left to `ferryfs restore`.
    expect(compareTrees(before, await ferry.call.snapshot(dest), () => '')).toEqual([])
  })
})
