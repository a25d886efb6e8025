import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const exec = promisify(execFile)
const LARGE = 3_000_000

/** CAP_SYS_RESOURCE, capabilities(7) */
function mayRaise(): boolean {
  const effective = /^CapEff:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n
}

describeMounted('a shell that mounts and has a limit on the size of files', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const mount = (limit: string, ...before: string[]): Promise<unknown> => {
    const { source, target, stateDir, root: cwd, environment: env } = ferry
    const [command, line] = ferry.line('mount', source, target, '--state-dir', stateDir, '--mode', 'drain')
    return exec('bash', ['-c', `ulimit ${limit} 1000; exec "$@"`, 'bash', ...before, command, ...line], {
      cwd,
      env,
    })
  }

  // What was lowered for good is raised by those only who may, as root mostly may.
  test.each(mayRaise() ? ['-Sf', '-f'] : ['-Sf'])(
    'P2, P6: with ulimit %s the daemon writes files of any size, and moves those that are there',
    async (limit) => {
      const [old, young] = [randomBytes(LARGE), randomBytes(LARGE)]
      writeFileSync(ferry.under('old'), old)
      await mount(limit)
      const { pid, supervisorPid } = await ferry.status()
      for (const each of [pid, supervisorPid])
        expect(readFileSync(`/proc/${each}/limits`, 'utf8')).toMatch(/^Max file size +unlimited +unlimited/m)
      await ferry.done('migrate', ferry.target, '--wait')
      expect(readdirSync(ferry.source)).not.toContain('old')
      writeFileSync(join(ferry.root, 'young'), young)
      await ferry.run('cp', 'young', ferry.at('young'))
      await ferry.run('sync', ferry.at('young'))
      await ferry.done('migrate', ferry.target, '--wait')
      expect((await ferry.readAnew('old')).equals(old)).toBe(true)
      expect((await ferry.readAnew('young')).equals(young)).toBe(true)
    },
  )

  test('P6: where the limit cannot be lifted, mount says so in one line, and nothing is made', async () => {
    const refused = mount('-f', 'setpriv', '--bounding-set=-sys_resource')
    await expect(refused).rejects.toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /^ferryfs: no file may get larger than 1024000 bytes here [^\n]+; raise the[^\n]+\n$/,
      ),
    })
    expect(existsSync(ferry.stateDir)).toBe(false)
  })
})
