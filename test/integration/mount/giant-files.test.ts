import { execFileSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// What tmpfs and XFS have in one file, and ferryfs does not.
const BEYOND = '9007199254740993'
const LARGEST = '9223372036854775807'
// The largest that ferryfs has (2^53 - 4096): nothing of it is rounded.
const EXACT = 9007199254736895

describeMounted('files larger than a number holds exactly', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({
      surroundings: (root) => {
        const source = join(root, 'source')
        mkdirSync(source)
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'none', source])
        return {
          source,
          target: join(root, 'target'),
          stateDir: join(root, 'state'),
          line: (command, args) => [command, [...args]],
          remove: () => {
            execFileSync('umount', ['-l', source])
          },
        }
      },
    })
    writeFileSync(ferry.under('plain'), 'plain')
    writeFileSync(ferry.under('exact'), '')
    truncateSync(ferry.under('exact'), EXACT)
    mkdirSync(ferry.under('d'))
    // node:fs would round it.
    for (const [name, size] of Object.entries({ beyond: BEYOND, 'd/largest': LARGEST }))
      execFileSync('truncate', ['-s', size, ferry.under(name)])
  })

  afterEach(async () => {
    await ferry.clear()
  })

  async function codeOf(...command: [string, ...string[]]): Promise<string> {
    try {
      await ferry.run(...command)
      return 'done'
    } catch (error) {
      return /File too large|Value too large/.exec(String(error))?.[0] ?? String(error)
    }
  }

  test.each(['mirror', 'prefer-store', 'drain'])(
    'P1: in %s a size is told as it is, or is an error: never rounded, and never called done',
    async (mode) => {
      await ferry.mount('--mode', mode)
      expect(readdirSync(ferry.target).sort()).toEqual(['beyond', 'd', 'exact', 'plain'])
      expect(await codeOf('stat', ferry.at('beyond'))).toMatch(/Value too large/)
      expect(await codeOf('cat', ferry.at('d/largest'))).toMatch(/Value too large/)
      expect(statSync(ferry.at('exact'), { bigint: true }).size).toBe(BigInt(EXACT))
      expect(await codeOf('truncate', '-s', BEYOND, ferry.at('plain'))).toMatch(/File too large/)
      expect(await codeOf('truncate', '-s', LARGEST, ferry.at('plain'))).toMatch(/File too large/)
      expect(readFileSync(ferry.at('plain'), 'utf8')).toBe('plain')
      const made = openSync(ferry.at('made'), 'w')
      ftruncateSync(made, EXACT)
      closeSync(made)
      expect(statSync(ferry.at('made'), { bigint: true }).size).toBe(BigInt(EXACT))
      const { status } = await ferry.ferryfs('migrate', ferry.target, '--wait')
      expect(status).toBe(3)
      const { failures } = await ferry.status()
      expect(failures.map(({ path, reason }) => `${path}: ${reason}`).sort()).toEqual([
        expect.stringMatching(new RegExp(`^beyond: .*${BEYOND} bytes.*8 PiB`)),
        expect.stringMatching(new RegExp(`^d/largest: .*${LARGEST} bytes.*8 PiB`)),
      ])
      expect(execFileSync('stat', ['-c', '%s', ferry.under('beyond')], { encoding: 'utf8' }).trim()).toBe(
        BEYOND,
      )
      expect(execFileSync('stat', ['-c', '%s', ferry.under('d/largest')], { encoding: 'utf8' }).trim()).toBe(
        LARGEST,
      )
      await ferry.unmount()
    },
  )
})
