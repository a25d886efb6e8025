import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { run, whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { O_APPEND, O_RDONLY, O_WRONLY } from '../../support/posix/constants.ts'

const reason = whyNoMount()

describe.skipIf(reason !== undefined)('files that chattr(1) guards', () => {
  let ferry: Ferry

  beforeEach(async () => {
    ferry = new Ferry()
    writeFileSync(ferry.under('imm'), 'content of imm')
    writeFileSync(ferry.under('app'), 'content of app')
    mkdirSync(ferry.under('dir'))
    writeFileSync(ferry.under('dir/x'), 'x')
    await run('chattr', '+i', ferry.under('imm'), ferry.under('dir'))
    await run('chattr', '+a', ferry.under('app'))
  })

  afterEach(async () => {
    for (const tree of [ferry.source, join(ferry.root, 'back')])
      await run('chattr', '-R', '-i', '-a', tree).catch(() => undefined)
    await ferry.clear()
  })

  const flags = async (path: string): Promise<string> =>
    (await run('lsattr', '-d', path)).split(' ', 1)[0]?.replaceAll(/[^ia]/g, '') ?? ''

  const append = async (text: string): Promise<void> => {
    const fd = await ferry.call.open(ferry.at('app'), O_WRONLY | O_APPEND)
    await ferry.call.write(fd, text)
    await ferry.call.close(fd)
  }

  async function expectGuarded(): Promise<void> {
    const { call } = ferry
    expect([
      await flags(ferry.at('imm')),
      await flags(ferry.at('app')),
      await flags(ferry.at('dir')),
    ]).toEqual(['i', 'a', 'i'])
    await expect(call.open(ferry.at('imm'), O_WRONLY)).rejects.toThrow('EPERM')
    await expect(call.open(ferry.at('app'), O_WRONLY)).rejects.toThrow('EPERM')
    await expect(call.truncate(ferry.at('app'), 0)).rejects.toThrow('EPERM')
    for (const name of ['imm', 'app', 'dir/x']) {
      await expect(call.unlink(ferry.at(name)), name).rejects.toThrow('EPERM')
      await expect(call.rename(ferry.at(name), ferry.at('other')), name).rejects.toThrow('EPERM')
    }
    await expect(call.chmod(ferry.at('imm'), 0o600)).rejects.toThrow('EPERM')
    await expect(call.writeFile(ferry.at('dir/new'), '')).rejects.toThrow('EPERM')
    const before = (await call.readFile(ferry.at('app'))).toString()
    await append('+')
    expect((await call.readFile(ferry.at('app'))).toString()).toBe(`${before}+`)
    await call.close(await call.open(ferry.at('imm'), O_RDONLY))
  }

  test.each(['mirror', 'drain'] as const)(
    'P1: are as on the volume in %s, a new mount included',
    async (mode) => {
      await ferry.mount('--mode', mode)
      await expectGuarded()
      await ferry.call.writeFile(ferry.at('free'), 'free', 0o666)
      await ferry.call.chmod(ferry.at('free'), 0o666)
      const user = ferry.as({ uid: 1234, gid: 1234, groups: [] })
      await run('chattr', '+i', ferry.at('free'))
      expect(await flags(ferry.at('free'))).toBe('i')
      await expect(ferry.call.unlink(ferry.at('free'))).rejects.toThrow('EPERM')
      await expect(user.call.open(ferry.at('free'), O_WRONLY)).rejects.toThrow('EPERM')
      await run('chattr', '-i', ferry.at('free'))
      await ferry.call.unlink(ferry.at('free'))
      await ferry.ferryfs('migrate', ferry.target, '--wait')
      await expectGuarded()
      await ferry.unmount()
      await ferry.mount()
      await expectGuarded()
      await ferry.unmount()
    },
  )

  test('P3: stay on the volume, listed, until chattr in the mount sets them free', async () => {
    await ferry.mount('--mode', 'drain')
    expect((await ferry.ferryfs('migrate', ferry.target, '--wait')).status).toBe(3)
    const { failures } = await ferry.status()
    expect(failures.map(({ path }) => path).sort()).toEqual(['app', 'dir/x', 'imm'])
    const refused = await ferry.ferryfs('mode', ferry.target, 'store-only')
    expect(refused.status, refused.stderr).toBe(3)
    expect(refused.stderr).toContain('kept on the volume by the immutable or append-only flag')
    const restored = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
    expect(restored.status, restored.stdout + restored.stderr).toBe(0)
    const back = ['imm', 'app', 'dir', 'dir/x'].map((name) => flags(join(ferry.root, 'back', name)))
    expect(await Promise.all(back)).toEqual(['i', 'a', 'i', ''])
    const user = ferry.as({ uid: 1234, gid: 1234, groups: [] })
    await expect(user.call.unlink(ferry.at('imm'))).rejects.toThrow(/EACCES|EPERM/)
    await run('chattr', '-i', '-a', ferry.at('imm'), ferry.at('dir'), ferry.at('app'))
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.eventually('all to be gone from the volume', () =>
      Promise.resolve(!['imm', 'app', 'dir'].some((name) => existsSync(ferry.under(name)))),
    )
    expect((await ferry.status()).failures).toEqual([])
    await ferry.mode('store-only')
    await run('chattr', '+i', ferry.at('imm'))
    await expect(ferry.call.unlink(ferry.at('imm'))).rejects.toThrow('EPERM')
    expect(await flags(ferry.at('imm'))).toBe('i')
    await ferry.unmount()
  })
})
