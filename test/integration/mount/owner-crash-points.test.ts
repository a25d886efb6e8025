import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gone } from '../../support/daemon/place.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

describeMounted('a daemon that dies over the mark of a volume', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ faults: true })
    writeFileSync(ferry.under('file'), 'content')
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const isMarked = (): boolean => {
    try {
      execFileSync('getfattr', ['-n', 'trusted.ferryfs.owner', ferry.source], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  }
  const shown = async (): Promise<string> => (await ferry.call.readFile(ferry.at('file'))).toString()

  test.each(['legacy.mark.written', 'daemon.mark.written'])(
    'P3: a worker that dies at %s has changed no mode, and the next one marks anew or takes it off',
    async (point) => {
      await ferry.mount()
      ferry.arm(point)
      const { status } = await ferry.ferryfs('mode', ferry.target, 'drain')
      expect(ferry.fired).toBe(true)
      const { mode } = await ferry.until('the next worker', (report) => report.workerStarts > 1)
      // The command asks the next worker again.
      expect({ status, mode }).toEqual({ status: 0, mode: 'drain' })
      expect(isMarked()).toBe(true)
      expect(existsSync(ferry.under('file'))).toBe(true)
      await ferry.killBoth()
      await ferry.mount()
      expect(await shown()).toBe('content')
    },
  )

  test('P3: at legacy.mark.written the whole daemon dies: the next mount is in the mode that was in force', async () => {
    await ferry.mount()
    const { pid, supervisorPid } = await ferry.status()
    ferry.arm('legacy.mark.written!')
    expect((await ferry.ferryfs('mode', ferry.target, 'drain')).status).toBe(1)
    await gone(supervisorPid)
    await gone(pid)
    expect(isMarked()).toBe(true)
    await ferry.mount()
    expect((await ferry.status()).mode).toBe('mirror')
    expect(isMarked()).toBe(false)
  })
})
