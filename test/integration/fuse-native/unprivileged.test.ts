import { execFile } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadFuseNative } from '../../../src/fuse/native/library.ts'
import { reasonOf } from '../../../src/base/errors.ts'
import { isRunning, startTicks } from '../../../src/daemon/process.ts'
import { builtCli } from '../../support/mount/built.ts'

// nobody and nogroup
const UID = 65_534

function whyNot(): string | undefined {
  if (process.geteuid?.() !== 0) return 'becoming another user needs root'
  try {
    loadFuseNative()
    if ((statSync('/usr/bin/fusermount').mode & 0o4000) === 0) return '/usr/bin/fusermount is not setuid'
    statSync('/dev/fuse')
  } catch (error) {
    return reasonOf(error)
  }
  return undefined
}

const reason = whyNot()
if (reason) console.log(`mounting as an unprivileged user is not tried here: ${reason}`)

/**
 * A mount namespace of our own, in which everybody may open /dev/fuse as on most systems (a container's is often root's
 * alone); in it, the script as another user.
 */
const SCENE = `
mount -t tmpfs none "$ROOT/dev"
mknod "$ROOT/dev/fuse" c 10 229
chmod 666 "$ROOT/dev/fuse"
mount --bind "$ROOT/dev/fuse" /dev/fuse
exec setpriv --reuid=${UID} --regid=${UID} --clear-groups -- bash --norc -eu -c "$SCRIPT"
`

describe.skipIf(reason !== undefined)('as an unprivileged user', () => {
  let root: string
  let daemon: { readonly pid: number; readonly ticks: number } | undefined

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-nobody-')))
    chmodSync(root, 0o755)
    for (const name of ['source', 'target', 'home', 'dev']) {
      mkdirSync(join(root, name))
      if (name !== 'dev') chownSync(join(root, name), UID, UID)
    }
    daemon = undefined
  })

  afterEach(() => {
    // The namespace, and the mount with it, ends with its last process.
    if (daemon && isRunning(daemon.pid, daemon.ticks)) process.kill(daemon.pid, 'SIGKILL')
    rmSync(root, { recursive: true, force: true })
  })

  function scene(script: string): Promise<{ readonly status: unknown; readonly output: string }> {
    return new Promise((resolve) => {
      const child = execFile(
        'unshare',
        ['--mount', '--propagation', 'private', 'bash', '--norc', '-euc', SCENE],
        {
          cwd: '/',
          timeout: 50_000,
          killSignal: 'SIGKILL',
          env: {
            PATH: process.env.PATH,
            LC_ALL: 'C',
            ROOT: root,
            HOME: join(root, 'home'),
            FERRYFS_RUN_DIR: join(root, 'home/run'),
            NODE: process.execPath,
            CLI: builtCli(),
            SCRIPT: `cd "$ROOT"; ferryfs() { "$NODE" --disable-warning=ExperimentalWarning "$CLI" "$@"; }; ${script}`,
          },
        },
        (error, stdout, stderr) => resolve({ status: error?.code ?? 0, output: stdout + stderr }),
      )
      child.stdout?.on('data', (text: string) => {
        const pid = Number(/by process (\d+)/.exec(text)?.[1])
        const ticks = startTicks(pid)
        if (ticks !== undefined) daemon = { pid, ticks }
      })
    })
  }

  it('P2: mounts through fusermount, and files on the volume are used with that user’s rights', async () => {
    writeFileSync(join(root, 'source/mine'), 'mine\n')
    chownSync(join(root, 'source/mine'), UID, UID)
    writeFileSync(join(root, 'source/secret'), 'of root\n', { mode: 0o600 })
    writeFileSync(join(root, 'source/readable'), 'for all\n', { mode: 0o644 })
    const { status, output } = await scene(`
      ferryfs mount source target --state-dir "$ROOT/home/state" --transport fuse-native
      grep "$ROOT/target " /proc/self/mounts
      cat target/mine target/readable
      ! cat target/secret
      ! sh -c 'echo x >> target/readable'
      echo new > target/new; mkdir target/dir; mv target/new target/dir/moved
      echo more >> target/mine
      rm -f target/readable
      ferryfs status target
      ferryfs unmount target
      ! grep "$ROOT/target " /proc/self/mounts
    `)
    expect(output).toMatch(
      /fuse\.ferryfs rw,nosuid,nodev,relatime,user_id=65534,group_id=65534,default_permissions /,
    )
    expect(output).toContain('mine\nfor all\n')
    expect(output).toMatch(/cat: target\/secret: Permission denied/)
    expect(output).toMatch(/cannot create target\/readable: Permission denied/)
    expect(output).toContain('is unmounted')
    expect(status).toBe(0)
    expect(readFileSync(join(root, 'source/dir/moved'), 'utf8')).toBe('new\n')
    expect(readFileSync(join(root, 'source/mine'), 'utf8')).toBe('mine\nmore\n')
    expect(statSync(join(root, 'source/dir/moved'))).toMatchObject({ uid: UID, gid: UID })
    expect(readFileSync(join(root, 'source/secret'), 'utf8')).toBe('of root\n')
  })

  it('P2: a killed worker is replaced, and a stale mount of a killed daemon too', async () => {
    const { status, output } = await scene(`
      pid_of() { ferryfs status target --json | "$NODE" -p 'JSON.parse(fs.readFileSync(0))["'$1'"]'; }
      starts() { pid_of workerStarts; }
      ferryfs mount source target --state-dir "$ROOT/home/state" --transport fuse-native
      echo before > target/file
      kill -9 "$(pid_of pid)"
      until [ "$(starts)" -ge 2 ] && cat target/file 2>/dev/null; do :; done
      worker=$(pid_of pid) supervisor=$(pid_of supervisorPid)
      kill -9 "$supervisor" "$worker"
      while [ -e "/proc/$supervisor/exe" ] || [ -e "/proc/$worker/exe" ]; do :; done
      ! cat target/file
      ferryfs mount source target --state-dir "$ROOT/home/state" --transport fuse-native
      cat target/file
      ferryfs unmount target
    `)
    // The second, while the connection is being closed.
    expect(output).toMatch(
      /cat: target\/file: (Transport endpoint is not connected|Software caused connection abort)/,
    )
    expect(output.match(/^before$/gm)?.length).toBe(2)
    expect(status).toBe(0)
  })

  it('doctor says what this user can use, and what is missing for the rest', async () => {
    const { output } = await scene('ferryfs doctor || true')
    expect(output).toMatch(/^warn {2}--transport kernel cannot be used: not root\n {6}be root/m)
    expect(output).toMatch(/^ok {4}--transport fuse-native can be used: mounts through fusermount/m)
  })
})
