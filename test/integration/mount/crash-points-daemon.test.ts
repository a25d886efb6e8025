import { existsSync, linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gone } from '../../support/daemon/place.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { O_RDWR } from '../../support/posix/constants.ts'

describeMounted('a daemon that dies at its start, at its end, or under a command', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ faults: true })
    writeFileSync(ferry.under('file'), 'content')
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const shown = async (): Promise<string> => (await ferry.call.readFile(ferry.at('file'))).toString()

  test.each([
    'daemon.supervisor.claimed',
    'daemon.supervisor.registered',
    'daemon.file.written',
    'daemon.supervisor.identified',
    'daemon.supervisor.mounted',
    'migration.lease.claimed',
    'daemon.start.recovered',
  ])('P4: a mount that dies at %s fails, and the next one mounts', async (point) => {
    ferry.arm(point)
    expect((await ferry.tryMount()).status).toBe(1)
    expect(ferry.fired).toBe(true)
    await ferry.mount()
    expect(await shown()).toBe('content')
    await ferry.unmount()
    await ferry.mount()
    expect(await shown()).toBe('content')
  })

  test('P2: at daemon.supervisor.held the whole daemon dies: the file was not unlinked', async () => {
    await ferry.mount()
    const { pid, supervisorPid } = await ferry.status()
    await ferry.call.open(ferry.at('file'), O_RDWR)
    ferry.arm('daemon.supervisor.held')
    await expect(ferry.call.unlink(ferry.at('file'))).rejects.toThrow(/ENOTCONN|ECONNABORTED/)
    await gone(supervisorPid)
    await gone(pid)
    await ferry.mount()
    expect(await shown()).toBe('content')
  })

  test('P2: at daemon.supervisor.unmounted nothing is mounted, and nothing is lost', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.call.writeFile(ferry.at('new'), 'new')
    const { pid, supervisorPid } = await ferry.status()
    ferry.arm('daemon.supervisor.unmounted')
    await ferry.ferryfs('unmount', ferry.target)
    await gone(supervisorPid)
    await gone(pid)
    expect(await ferry.call.names(ferry.target)).toEqual([])
    await ferry.mount()
    expect((await ferry.call.readFile(ferry.at('new'))).toString()).toBe('new')
  })

  describe('of a lost state directory a rebuild', () => {
    let identity: string[]
    let line: string[]

    beforeEach(async () => {
      identity = ['--store', `embedded:${join(ferry.root, 'store')}`, '--namespace', 'tree']
      await ferry.mount('--mode', 'drain', ...identity)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      rmSync(ferry.stateDir, { recursive: true })
      line = ['rebuild', ...identity, '--state-dir', ferry.stateDir]
    })

    async function dies(point: string): Promise<void> {
      ferry.arm(point)
      expect((await ferry.ferryfs(...line)).status).toBeNull()
      expect(ferry.fired).toBe(true)
    }

    const made = (): string[] => readdirSync(ferry.stateDir).filter((name) => /^(rebuild|catalog)/.test(name))

    test('P5: that dies at any of its points is run again, and leaves no half catalog', async () => {
      for (const point of [
        'migration.rebuild.surveyed',
        'migration.rebuild.filled',
        'migration.rebuild.leased',
        'daemon.file.written',
        'migration.rebuild.identified',
      ]) {
        await dies(point)
        // What is half a catalog has not got its name.
        expect(made()).not.toContain('catalog.db')
      }
      const refused = await ferry.tryMount(...identity)
      expect(refused.stderr).toMatch(/rebuild this state directory from the store/)
      await ferry.done(...line)
      expect(made()).toEqual(['catalog.db'])
      await ferry.mount(...identity)
      expect(await shown()).toBe('content')
    })

    test('P5: that dies at its very end is run again, or its catalog is mounted, and then no rebuild touches it', async () => {
      await dies('migration.rebuild.named')
      expect(readdirSync(ferry.stateDir)).toContain('mount.json')
      expect(made()).toEqual(['catalog.db'])
      await ferry.done(...line)
      await dies('migration.rebuild.named')
      expect(made()).toEqual(['catalog.db'])
      await ferry.mount(...identity)
      expect(await shown()).toBe('content')
      await ferry.unmount()
      const again = await ferry.ferryfs(...line)
      expect(again.status).toBe(2)
      expect(again.stderr).toMatch(/never writes into another/)
    })
  })

  test.each(['migration.merge.directory', 'migration.merge.names', 'daemon.source.merged'])(
    'P1, P5: a first mount after rebuild that dies at %s fails, and the next one shows all that SOURCE alone has',
    async (point) => {
      const identity = ['--store', `embedded:${join(ferry.root, 'store')}`, '--namespace', 'tree']
      mkdirSync(ferry.under('d'))
      writeFileSync(ferry.under('d/one'), 'never looked at')
      linkSync(ferry.under('file'), ferry.under('d/other'))
      await ferry.mount('--mode', 'drain', ...identity)
      expect(await shown()).toBe('content')
      await ferry.until('a file in the store', ({ files }) => files.stored === 1)
      await ferry.settled()
      await ferry.unmount()
      rmSync(ferry.stateDir, { recursive: true })
      await ferry.done('rebuild', ...identity, '--state-dir', ferry.stateDir)
      ferry.arm(point)
      expect((await ferry.tryMount(...identity)).status).toBe(1)
      expect(ferry.fired).toBe(true)
      await ferry.mount(...identity)
      expect(await shown()).toBe('content')
      expect((await ferry.call.readFile(ferry.at('d/one'))).toString()).toBe('never looked at')
      expect((await ferry.call.stat(ferry.at('file'))).nlink).toBe(2)
      expect((await ferry.call.stat(ferry.at('d/other'))).nlink).toBe(2)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('verify', ferry.target)
      expect(existsSync(ferry.under('d/one'))).toBe(false)
      await ferry.unmount()
    },
  )
})
