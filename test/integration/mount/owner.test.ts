import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { eventually } from '../../support/daemon/place.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const MARK = 'trusted.ferryfs.owner'

describeMounted('who owns a volume', () => {
  let ferry: Ferry
  let elsewhere: string

  beforeEach(() => {
    ferry = new Ferry()
    elsewhere = join(ferry.root, 'elsewhere')
    mkdirSync(elsewhere)
    mkdirSync(ferry.under('directory'))
    for (const name of ['file', 'directory/inner']) writeFileSync(ferry.under(name), `content of ${name}`)
  })

  afterEach(async () => {
    while (mountsOf(elsewhere).length > 0) execFileSync('umount', ['-l', elsewhere])
    await ferry.clear()
  })

  const isMarked = (): boolean => {
    try {
      execFileSync('getfattr', ['-n', MARK, ferry.source], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  }

  async function drained(...more: string[]): Promise<void> {
    await ferry.mount('--mode', 'drain', ...more)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.eventually('the volume to be empty', async () => !existsSync(ferry.under('file')))
    await ferry.unmount()
  }

  /** The one line by which a command was refused; nothing was mounted and nothing made. */
  async function refusal(...args: string[]): Promise<string> {
    const before = readdirSync(ferry.root).sort()
    const { status, stdout, stderr } = await ferry.ferryfs(...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^ferryfs: [^\n]+\n$/)
    expect(mountsOf(elsewhere)).toEqual([])
    expect(readdirSync(ferry.root).sort()).toEqual(before)
    return stderr
  }

  /** Follows the advice of a message, word for word, through a shell. */
  async function follow(line: string): Promise<void> {
    const command = /"(ferryfs mount [^"]+)"/.exec(line)?.[1]?.replace(/^ferryfs /, '')
    if (command === undefined) throw new Error(`no command in ${line}`)
    const words = execFileSync('bash', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' })
    await ferry.done(...words.trimEnd().split('\n'))
  }

  async function shows(target: string): Promise<void> {
    const seen = await ferry.run('cat', join(target, 'file'), join(target, 'directory/inner'))
    expect(seen).toBe('content of filecontent of directory/inner')
  }

  test('P1: a drained volume is mounted with its own state directory only, wherever; the advice works', async () => {
    await drained('--op-timeout', '7s')
    const line = await refusal('mount', ferry.source, elsewhere, '--state-dir', join(ferry.root, 'fresh'))
    expect(line).toContain(
      `"ferryfs mount ${ferry.source} ${elsewhere} --state-dir ${ferry.stateDir} --op-timeout 7000ms"`,
    )
    expect(await refusal('mount', ferry.source, elsewhere)).toContain(ferry.stateDir)
    await follow(line)
    await shows(elsewhere)
    await ferry.done('unmount', elsewhere)
    // The first place is as good.
    await ferry.mount()
    await shows(ferry.target)
  })

  test('P1: nor is a part of it, nor what is around it, while it is not mounted', async () => {
    await drained()
    mkdirSync(ferry.under('new'))
    const right = `"ferryfs mount ${ferry.source} ${elsewhere} --state-dir ${ferry.stateDir}"`
    const inside = await refusal('mount', ferry.under('new'), elsewhere)
    expect(inside).toMatch(/SOURCE .*new lies inside .*source, whose files may be only in its store/)
    expect(inside).toContain(right)
    const other = new Ferry()
    try {
      const around = await refusal('mount', ferry.root, other.target, '--state-dir', other.stateDir)
      expect(around).toMatch(/SOURCE .* holds .*source, whose files may be only in its store/)
      expect(around).toContain(right.replace(elsewhere, other.target))
    } finally {
      await other.clear()
    }
  })

  test('P1: a mark is on the volume before a file goes, and no longer than that it may lack one', async () => {
    await ferry.mount()
    expect(isMarked()).toBe(false)
    await ferry.mode('drain')
    expect(isMarked()).toBe(true)
    await ferry.mode('mirror')
    expect(isMarked()).toBe(false)
    // Nobody misses it then.
    await ferry.remount()
    await ferry.mode('prefer-store')
    await ferry.settled()
    expect(isMarked()).toBe(false)
    await ferry.mode('drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    expect(isMarked()).toBe(true)
    // Applications see nothing of it.
    expect(await ferry.run('getfattr', '-d', '-m', '-', ferry.target)).not.toContain('ferryfs')
    await expect(ferry.run('setfattr', '-n', MARK, '-v', 'mine', ferry.target)).rejects.toThrow(
      /not permitted/,
    )
    await ferry.done('restore', ferry.target, join(ferry.root, 'restored'))
    expect(await ferry.run('getfattr', '-d', '-m', '-', join(ferry.root, 'restored'))).not.toContain(
      'ferryfs',
    )
  })

  test('P5: a second mount of one source is refused, also through a bind mount, a symlink and another run directory', async () => {
    await ferry.mount()
    const bound = join(ferry.root, 'bound')
    mkdirSync(bound)
    symlinkSync(ferry.source, join(ferry.root, 'link'))
    await ferry.run('mount', '--bind', ferry.source, bound)
    try {
      for (const source of [ferry.source, bound, join(ferry.root, 'link')]) {
        expect(await refusal('mount', source, elsewhere, '--mode', 'drain')).toMatch(
          /is served already at .*; "ferryfs status .*" shows it, "ferryfs unmount .*" ends it/,
        )
      }
    } finally {
      await ferry.run('umount', bound)
    }
    expect(await refusal('mount', ferry.under('directory'), elsewhere)).toMatch(
      /lies inside .*, which is served/,
    )
    mkdirSync(join(ferry.root, 'run2'))
    await expect(
      ferry.run(
        'env',
        `FERRYFS_RUN_DIR=${ferry.root}/run2`,
        ...ferry.line('mount', ferry.source, elsewhere).flat(),
      ),
    ).rejects.toThrow(/is served already by process \d+ of user 0; end that first/)
  })

  test('P4: after a crash the whole command is printed, and TARGET alone is enough', async () => {
    const options = ['--namespace', 'tree', '--ack', 'store', '--concurrency', '3', '--log-level', 'debug']
    await ferry.mount('--mode', 'drain', ...options)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.killBoth()
    const { status, stderr } = await ferry.ferryfs('status', ferry.target)
    expect(status).toBe(1)
    const whole = ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir]
    for (const word of [...whole, ...options]) expect(stderr).toContain(word)
    await follow(stderr)
    await shows(ferry.target)
    await ferry.killBoth()
    await ferry.done('mount', ferry.target)
    await shows(ferry.target)
    expect(await ferry.status()).toMatchObject({ namespace: 'tree', stateDir: ferry.stateDir, mode: 'drain' })
    // Also after it ended well, and what is typed wins over what is remembered.
    await ferry.unmount()
    await ferry.done('mount', ferry.target, '--mode', 'store-only')
    expect((await ferry.status()).mode).toBe('store-only')
    await ferry.unmount()
    expect(await refusal('mount', elsewhere)).toMatch(/nothing is remembered of a mount at .*elsewhere/)
  })

  test('P1: a state directory that is not there, or is another, does not pass for an empty one', async () => {
    await drained('--store', `embedded:${ferry.root}/store`)
    const away = join(ferry.root, 'away')
    renameSync(ferry.stateDir, away)
    const same = [
      'mount',
      ferry.source,
      ferry.target,
      '--state-dir',
      ferry.stateDir,
      '--store',
      `embedded:${ferry.root}/store`,
    ]
    const line = await refusal(...same)
    expect(line).toMatch(
      /that is not there \(is its disk mounted\?\): bring it back, or make it anew with "ferryfs rebuild/,
    )
    // The directory on which its disk is to be mounted.
    mkdirSync(ferry.stateDir)
    await refusal(...same)
    rmSync(ferry.stateDir, { recursive: true })
    // What was moved is known by its name in the mark; the mark follows.
    await ferry.done(...same.map((word) => (word === ferry.stateDir ? away : word)))
    await shows(ferry.target)
    await ferry.unmount()
    expect(await refusal('mount', ferry.source, elsewhere)).toContain(`--state-dir ${away}`)
  })

  test('P5: what rebuild made takes the place of what is lost, and only then', async () => {
    const store = `embedded:${ferry.root}/store`
    await drained('--store', store)
    const other = join(ferry.root, 'other')
    const rebuild = ['rebuild', '--store', store, '--namespace', 'ferryfs', '--state-dir', other]
    await ferry.done(...rebuild)
    const mount = ['mount', ferry.source, ferry.target, '--state-dir', other, '--store', store]
    // The old one may know what the store does not have yet.
    expect(await refusal(...mount)).toContain(`--state-dir ${ferry.stateDir}`)
    rmSync(ferry.stateDir, { recursive: true })
    for (let round = 0; round < 2; round += 1) {
      await ferry.done(...mount)
      await shows(ferry.target)
      await ferry.unmount()
    }
    await ferry.done('mount', ferry.target, '--mode', 'drain')
    await shows(ferry.target)
    await ferry.unmount()
    expect(await refusal('mount', ferry.source, elsewhere)).toContain(`--state-dir ${other}`)
  })

  test('P5: a catalog that has lost its log is told of with the commands that help, as they stand', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.eventually('the volume to be empty', async () => !existsSync(ferry.under('file')))
    await ferry.settled()
    await ferry.killBoth()
    await unmountKernel(ferry.target, { lazy: true })
    rmSync(join(ferry.stateDir, 'catalog.db-wal'))
    const mount = ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir]
    const line = await refusal(...mount)
    expect(line).toContain('the catalog there does not know them any more')
    // Nothing of it went, and it is not taken for an empty one by the next try either.
    expect(await refusal(...mount)).toBe(line)
    const commands = Array.from(line.matchAll(/"ferryfs ([^"]+)"/g), ([, words = '']) => words.split(' '))
    for (const words of commands.slice(0, 2)) await ferry.done(...words)
    await shows(ferry.target)
  })

  test('P1: a mark can be taken over and forgotten, in so many words', async () => {
    await drained()
    const fresh = ['mount', ferry.source, elsewhere, '--state-dir', join(ferry.root, 'fresh')]
    expect(await refusal(...fresh)).toContain('--take-over mounts without them')
    await ferry.done(...fresh, '--take-over')
    expect(await ferry.call.names(elsewhere)).toEqual([])
    await ferry.done('unmount', elsewhere)
    // The new one has it now, in a mode in which nothing is missing.
    expect(isMarked()).toBe(false)
    // And may have been written to.
    const own = ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir]
    expect(await refusal(...own)).toContain('has lost the mark')
    await ferry.mount('--take-over')
    await shows(ferry.target)
    expect(isMarked()).toBe(true)
    const mounted = await ferry.ferryfs('forget', ferry.target)
    expect(mounted).toMatchObject({ status: 2, stderr: expect.stringContaining('is mounted') })
    await ferry.unmount()
    const told = await ferry.done('forget', ferry.target)
    expect(told).toContain(`still where the state directory ${ferry.stateDir} knows`)
    const again = `"ferryfs ${own.join(' ')} --take-over"`
    expect(told).toContain(again)
    expect(isMarked()).toBe(false)
    await refusal('mount', ferry.target)
    expect(await ferry.ferryfs('forget', ferry.source)).toMatchObject({ status: 2 })
    await follow(again)
    await shows(ferry.target)
  })

  test('P1: --source-readonly leaves nothing on the volume; the machine knows whose it is', async () => {
    const { ctimeNs } = statSync(ferry.source, { bigint: true })
    await ferry.mount('--source-readonly')
    await ferry.call.writeFile(ferry.at('more'), 'only in the store')
    await ferry.unmount()
    expect(isMarked()).toBe(false)
    expect(statSync(ferry.source, { bigint: true }).ctimeNs).toBe(ctimeNs)
    const line = await refusal('mount', ferry.source, elsewhere, '--source-readonly')
    expect(line).toContain(`--state-dir ${ferry.stateDir} --source-readonly"`)
    await follow(line)
    expect((await ferry.call.readFile(join(elsewhere, 'more'))).toString()).toBe('only in the store')
    await ferry.done('unmount', elsewhere)
    await ferry.done('forget', ferry.source, '--json')
    await ferry.done('mount', ferry.source, elsewhere, '--source-readonly')
    expect(await ferry.call.names(elsewhere)).not.toContain('more')
    await ferry.done('unmount', elsewhere)
  })

  test('P1: a copy of a drained volume does not pass for it', async () => {
    await drained()
    const copy = join(ferry.root, 'copy')
    await ferry.run('cp', '-a', ferry.source, copy)
    const line = await refusal('mount', copy, elsewhere, '--state-dir', ferry.stateDir)
    expect(line).toMatch(/SOURCE .*copy is a copy of .*source, whose files are only where/)
    await ferry.done('forget', copy)
    await ferry.done('mount', copy, elsewhere, '--state-dir', join(ferry.root, 'fresh'))
    await ferry.done('unmount', elsewhere)
  })

  test('P3: a volume that cannot be marked is not drained', async () => {
    await ferry.run('mount', '--bind', ferry.source, ferry.source)
    await ferry.run('mount', '-o', 'remount,bind,ro', ferry.source)
    try {
      await ferry.mount()
      const refused = await ferry.ferryfs('mode', ferry.target, 'drain')
      expect(refused.status).toBe(3)
      expect(refused.stderr).toMatch(/^ferryfs: SOURCE cannot be marked .*EROFS.*use --source-readonly\n$/)
      expect((await ferry.status()).mode).toBe('mirror')
      await ferry.unmount()
    } finally {
      await ferry.run('umount', ferry.source)
    }
  })

  test('P5: store-only lets go of the volume: it can be unmounted, live and after another mount', async () => {
    const image = join(ferry.root, 'image')
    await ferry.run('truncate', '-s', '64M', image)
    await ferry.run('mkfs.ext4', '-q', image)
    await ferry.run('mount', '-o', 'loop', image, ferry.source)
    try {
      writeFileSync(ferry.under('file'), 'content of file')
      rmSync(ferry.under('lost+found'), { recursive: true })
      await ferry.mount('--mode', 'drain')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.mode('store-only')
      await eventually('the volume to be let go', () =>
        ferry.run('umount', ferry.source).then(
          () => true,
          () => false,
        ),
      )
      await ferry.run('mount', '-o', 'loop', image, ferry.source)
      await ferry.remount()
      await eventually('the volume to be let go', () =>
        ferry.run('umount', ferry.source).then(
          () => true,
          () => false,
        ),
      )
      expect((await ferry.call.readFile(ferry.at('file'))).toString()).toBe('content of file')
    } finally {
      await ferry.run('umount', ferry.source).catch(() => '')
    }
  })
})
