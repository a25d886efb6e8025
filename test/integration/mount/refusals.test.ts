import { execFileSync, type SpawnSyncReturns, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { openStore } from '../../../src/store/index.ts'
import { changeDatabase } from '../../support/change-database.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// What a look at the directory may leave or change: logs, locks, sockets, what is kept beside a database.
const TRANSIENT = /daemon\.log|\.lock|\.sock$|-(wal|shm|journal|witness|sums)$/

/** Path → content of everything in a directory; of a database, which is changed in place, only that it is there. */
function everythingIn(directory: string): Record<string, string> {
  if (!existsSync(directory)) return {}
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  return Object.fromEntries(
    entries
      .filter((entry) => entry.isFile() && !TRANSIENT.test(entry.name))
      .map((entry) => {
        const path = join(entry.parentPath, entry.name)
        return [path, /\.(db|sqlite)$/.test(path) ? 'a database' : readFileSync(path, 'latin1')]
      }),
  )
}

describeMounted('bad input', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
    writeFileSync(ferry.under('file'), 'content')
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** The command ends with the status and one line; source and state are as before. */
  async function refused(args: string[], status: number, line: RegExp): Promise<void> {
    const before = [everythingIn(ferry.source), everythingIn(ferry.stateDir)]
    const ended = await ferry.ferryfs(...args)
    expect(ended.stderr).toMatch(/^ferryfs: [^\n]+\n$/)
    expect(ended.stderr).toMatch(line)
    expect(ended).toMatchObject({ status, stdout: '' })
    expect([everythingIn(ferry.source), everythingIn(ferry.stateDir)]).toEqual(before)
  }

  test('P1: source, target and state directory in one another or missing', async () => {
    const { source, target, root } = ferry
    mkdirSync(join(source, 'inner'))
    mkdirSync(join(target, 'inner'))
    await refused(['mount', source, join(source, 'inner')], 2, /TARGET .* lies inside SOURCE .*; give/)
    await refused(['mount', join(target, 'inner'), target], 2, /SOURCE .* lies inside TARGET .*; give/)
    await refused(['mount', source, source], 2, /are the same directory/)
    await refused(['mount', join(root, 'none'), target], 2, /SOURCE .*none does not exist.*; give/)
    await refused(['mount', source, join(root, 'none')], 2, /TARGET .*none does not exist; give/)
    await refused(['mount', join(source, 'file'), target], 2, /SOURCE .*file is not a directory; give/)
    await refused(['mount', source, target, '--state-dir', join(source, 'state')], 2, /lies inside SOURCE/)
    await refused(['mount', source, target, '--store', `embedded:${source}/s`], 2, /the store .* lies inside/)
    expect(readdirSync(root).sort()).toEqual(['source', 'target'])
  })

  test('P1: a state directory or a store that a bind mount leads into the source', async () => {
    const { source, target, root } = ferry
    mkdirSync(join(source, 'inner/state'), { recursive: true })
    const shown = join(root, 'shown')
    mkdirSync(shown)
    for (const from of [source, join(source, 'inner')]) {
      execFileSync('mount', ['--bind', from, shown])
      try {
        for (const option of ['--state-dir=', '--store=embedded:'])
          for (const path of [shown, join(shown, 'state'), join(shown, 'new/one')])
            await refused(
              ['mount', source, target, '--mode', 'drain', `${option}${path}`],
              2,
              /(directory|store) \S+ lies inside SOURCE \S+, by a bind mount; give a directory outside/,
            )
        // The other way round: SOURCE is the bind mount.
        await refused(
          ['mount', shown, target, '--state-dir', join(from, 'new')],
          2,
          /lies inside SOURCE \S+, by a bind mount/,
        )
      } finally {
        execFileSync('umount', [shown])
      }
    }
    expect(readdirSync(join(source, 'inner'))).toEqual(['state'])
  })

  test('P1: what is not UTF-8 is refused, where it would be the name of another file', async () => {
    const { source, target, root, stateDir } = ferry
    // Node makes the second name of the first.
    const run = (script: string, ...more: string[]): SpawnSyncReturns<string> => {
      const [command, line] = ferry.line(...more)
      const all = ['-c', `x=$(printf 'x\\377'); ${script}`, command, ...line]
      return spawnSync('bash', all, { cwd: root, env: ferry.environment, encoding: 'utf8' })
    }
    for (const name of ['"$x"', "$'x\\xef\\xbf\\xbd'"]) run(`mkdir ${name}; echo file > ${name}/file`)
    run('ln -s "$x" link')
    const mount = ['mount', '--mode', 'drain', '--state-dir', stateDir]
    for (const [script, line, ...more] of [
      ['"$0" "$@" "$x" target', /x\\xff is not valid UTF-8, and nothing is done; /, ...mount],
      ['"$0" "$@" source "$PWD/$x"', /x\\xff is not valid UTF-8/, ...mount],
      ['"$0" "$@" --store="embedded:$PWD/$x"', /x\\xff is not valid UTF-8/, ...mount, source, target],
      [
        'FERRYFS_STATE_DIR="$PWD/$x" "$0" "$@"',
        /FERRYFS_STATE_DIR=\S+x\\xff is not/,
        'mount',
        source,
        target,
      ],
      ['"$0" "$@" "$x"', /x\\xff is not valid UTF-8/, 'restore', target, join(root, 'back')],
      [
        'cd "$x"; "$0" "$@"',
        /working directory \S+x\\xff is not .*; change/,
        ...mount,
        '../source',
        '../target',
      ],
      ['"$0" "$@"', /SOURCE link leads to a name that is not valid UTF-8; give/, ...mount, 'link', target],
      ['"$0" "$@"', /TARGET link leads to a name that is not valid UTF-8; give/, ...mount, source, 'link'],
      ['"$0" "$@"', /link: it leads to a name that is not/, 'mount', '--state-dir', 'link', source, target],
    ] as const) {
      const { status, stdout, stderr } = run(script, ...more)
      expect(stderr).toMatch(/^ferryfs: [^\n]+\n$/)
      expect(stderr).toMatch(line)
      expect({ status, stdout }, stderr).toEqual({ status: 2, stdout: '' })
    }
    expect(readdirSync(root).sort()).toEqual(['link', 'source', 'target', 'x\ufffd', 'x\ufffd'])
    // A true U+FFFD is a name like others.
    await refused(
      ['mount', join(root, 'x\ufffd/file'), target],
      2,
      /SOURCE \S+x\ufffd\/file is not a directory/,
    )
  })

  test('P1: a store in the place of what the state directory has, and the other way round', async () => {
    const { source, target, stateDir, root } = ferry
    const mount = ['mount', source, target, '--state-dir', stateDir]
    for (const name of ['cache', 'staging', 'locks', 'lost', 'catalog.db', 'mount.json'])
      await refused(
        [...mount, '--store', `embedded:${stateDir}`, '--namespace', name],
        2,
        /the store would have its namespace in \S+, where the state directory \S+ has files of its own; give another/,
      )
    await refused(
      [...mount, '--store', `embedded:${stateDir}/staging`],
      2,
      /the store would have its namespace in/,
    )
    await refused([...mount, '--store', `embedded:${root}`, '--namespace', 'state'], 2, /files of its own/)
    expect(readdirSync(root).sort()).toEqual(['source', 'target'])
    // By its full path, the store is where it is without one.
    await ferry.mount('--store', `embedded:${stateDir}/store`)
    await refused(
      ['restore', target, join(root, 'back'), ''],
      2,
      /PATH is empty; give "\." for the whole tree/,
    )
    await refused(['restore', target, join(root, 'back'), 'file', ''], 2, /PATH is empty/)
    await refused(['restore', target, ''], 2, /DEST is empty/)
    expect(existsSync(join(root, 'back'))).toBe(false)
  })

  test('P1: unknown modes, stores, options and values name the value and what is allowed', async () => {
    const { source, target } = ferry
    const mount = ['mount', source, target]
    await refused([...mount, '--mode', 'move'], 2, /--mode is "move"; allowed: observe, mirror/)
    await refused([...mount, '--store', 's3://bucket'], 2, /--store is "s3:\/\/bucket"; allowed: embedded:/)
    await refused([...mount, '--fast'], 2, /unknown option '--fast'/)
    await refused([...mount, '--ack', 'never'], 2, /--ack is "never"; allowed: local, store/)
    await refused([...mount, '--op-timeout', '5'], 2, /--op-timeout is "5"; allowed: a duration with a unit/)
    await refused([...mount, '--state-dir', ''], 2, /--state-dir is ""; allowed/)
    await refused([...mount, '--config', '/none'], 2, /configuration file \/none cannot be read/)
    await refused(['mount', source], 2, /missing required argument 'target'/)
    await refused(['ferry', source], 2, /unknown command 'ferry'/)
    for (const command of ['status', 'unmount', 'migrate', 'verify', 'mode'])
      await refused([command, target], 2, /nothing is mounted by ferryfs at/)
    await refused(
      ['rebuild', '--store', `embedded:${ferry.root}/none`, '--namespace', 'n', '--state-dir', 'new'],
      4,
      /there is no embedded store in .*\/none\/n/,
    )
  })

  test('P1: a target in use, and a state directory that is another mount’s or held', async () => {
    const other = new Ferry()
    try {
      await ferry.mount()
      await refused(
        ['mount', ferry.source, ferry.target, '--state-dir', other.stateDir],
        2,
        /is in use: ferryfs serves/,
      )
      await refused(
        ['mount', ferry.source, other.target, '--state-dir', ferry.stateDir],
        2,
        /is served already at .*; "ferryfs status .*" shows it, "ferryfs unmount .*" ends it/,
      )
      await refused(
        ['mount', other.source, other.target, '--state-dir', ferry.stateDir],
        2,
        /belongs to another mount: its source/,
      )
      await refused(['mode', ferry.target, 'fast'], 2, /mode is "fast"; allowed: observe/)
      await refused(
        ['migrate', ferry.target, '--rate', 'much'],
        2,
        /--rate is "much"; allowed: bytes per second/,
      )
      await refused(
        ['migrate', ferry.target, '--concurrency', '0'],
        2,
        /--concurrency is "0"; allowed: a whole/,
      )
      await refused(['restore', ferry.target, ferry.at('in')], 2, /lie one in the other; give/)
      expect(existsSync(other.stateDir)).toBe(false)
      await ferry.unmount()
      await refused(
        ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir, '--namespace', 'else'],
        2,
        /its namespace is ferryfs, not else/,
      )
      await refused(
        ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir, '--store', 'memory:'],
        2,
        /knows what lies in the store embedded:/,
      )
      mkdirSync(join(ferry.root, 'foreign'))
      writeFileSync(join(ferry.root, 'foreign/letter'), 'dear reader')
      await refused(
        ['mount', ferry.source, ferry.target, '--state-dir', 'foreign'],
        2,
        /is not empty and not of ferryfs \(it holds letter\)/,
      )
      expect(readdirSync(join(ferry.root, 'foreign'))).toEqual(['letter'])
    } finally {
      await other.clear()
    }
  })

  test('P6: what the kernel shows of itself is no place for a state directory, a store or a restored tree', async () => {
    const { source, target } = ferry
    for (const place of ['/proc/ferryfs/state', '/sys/kernel/new/state']) {
      const nowhere = /lies inside \/(proc|sys), where nothing can be kept; give a directory on a disk/
      await refused(['mount', source, target, '--state-dir', place], 2, nowhere)
      await refused(['mount', source, target, '--store', `embedded:${place}`], 2, nowhere)
      const rebuild = ['rebuild', '--namespace', 'n', '--store']
      await refused([...rebuild, 'embedded:/tmp/none', '--state-dir', place], 2, nowhere)
      await refused([...rebuild, `embedded:${place}`, '--state-dir', ferry.stateDir], 2, nowhere)
    }
    const own = join(ferry.root, 'kernel')
    mkdirSync(own)
    await ferry.run('mount', '-t', 'proc', 'proc', own)
    try {
      await refused(
        ['mount', source, target, '--state-dir', join(own, 'state')],
        2,
        /lies on a file system of type proc, where nothing can be kept/,
      )
      await ferry.mount()
      for (const place of ['/proc/restored', '/sys/restored', join(own, 'restored')])
        await refused(['restore', target, place], 2, /DEST .* where nothing can be kept/)
    } finally {
      await ferry.run('umount', own)
    }
  })

  test('P1: a relative --state-dir is relative to the working directory', async () => {
    await ferry.done('mount', ferry.source, ferry.target, '--state-dir', './state')
    expect((await ferry.status()).stateDir).toBe(ferry.stateDir)
    await ferry.killBoth()
    await ferry.mount()
    await ferry.unmount()
  })

  test('P1: an application or another volume at the target is left alone', async () => {
    await ferry.run('mount', '-t', 'tmpfs', 'none', ferry.target)
    try {
      await refused(
        ['mount', ferry.source, ferry.target],
        2,
        /is in use: none \(tmpfs\) is mounted there; unmount it/,
      )
    } finally {
      await ferry.run('umount', ferry.target)
    }
  })

  test.each([
    ['garbage', (file: string) => writeFileSync(file, 'not a database at all, but long enough '.repeat(200))],
    ['cut short', (file: string) => truncateSync(file, 5000)],
    ['of another program', (file: string) => edit(file, 'PRAGMA application_id = 1234')],
    ['of a newer format', (file: string) => edit(file, 'PRAGMA user_version = 9999')],
  ])('P1: a catalog that is %s is refused and left as it is', async (_what, damage) => {
    await ferry.mount('--mode', 'drain')
    await ferry.call.writeFile(ferry.at('new'), 'only in the store')
    await ferry.settled()
    await ferry.unmount()
    const file = join(ferry.stateDir, 'catalog.db')
    const kept = join(ferry.root, 'kept.db')
    copyFileSync(file, kept)
    for (const suffix of ['-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true })
    damage(file)
    const damaged = readFileSync(file)
    const ended = await ferry.tryMount()
    expect(ended).toMatchObject({ status: 1, stdout: '' })
    expect(ended.stderr).toMatch(/^ferryfs: [^\n]*catalog\.db[^\n]*\n$/)
    expect(readFileSync(file).equals(damaged)).toBe(true)
    expect(mountsOf(ferry.target)).toEqual([])
    copyFileSync(kept, file)
    await ferry.mount()
    expect((await ferry.call.readFile(ferry.at('new'))).toString()).toBe('only in the store')
  })

  // The refused mount had left an empty catalog behind, and the rebuild that it advised refused because of that.
  test("P5: what a mount of another state directory's namespace advises works: rebuild takes it over", async () => {
    const shared = `embedded:${ferry.root}/store`
    await ferry.mount('--store', shared)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    const other = new Ferry()
    try {
      const place = ['--state-dir', other.stateDir, '--store', shared]
      await refused(['mount', other.source, other.target, ...place], 2, /or rebuild this state directory/)
      expect(await other.done('rebuild', '--namespace', 'ferryfs', ...place)).toMatch(/^rebuilt /)
      await other.done('mount', other.source, other.target, ...place)
      expect(await other.call.names(other.target)).toEqual(await ferry.call.names(ferry.source))
    } finally {
      await other.clear()
    }
  })

  test('P1: a namespace of a newer format, and one of another state directory', async () => {
    const shared = `embedded:${ferry.root}/store`
    await ferry.mount('--store', shared)
    await ferry.unmount()
    const other = new Ferry()
    try {
      const args = ['mount', other.source, other.target, '--state-dir', other.stateDir, '--store', shared]
      await refused(
        args,
        2,
        /namespace ferryfs in this store belongs to another state directory .*choose another/,
      )
      await other.done(...args, '--namespace', 'other')
      await other.killBoth()
      await other.done('unmount', other.target)
    } finally {
      await other.clear()
    }
    const store = await openStore(shared, {
      stateDir: ferry.stateDir,
      namespace: 'ferryfs',
      log: keepingLog(),
    })
    const record = await store.get('meta', 'namespace')
    if (!record) throw new Error('the namespace has no record')
    const lease = { ...JSON.parse(record.value.toString()), format: 99 }
    const version = { ...record.version, version: record.version.version + 1 }
    await store.put('meta', 'namespace', { ...record, value: Buffer.from(JSON.stringify(lease)), version })
    await store.close()
    const mount = ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir, '--store', shared]
    await refused(mount, 2, /namespace ferryfs has format 99, this ferryfs knows \d+: use the newer ferryfs/)
  })

  test('P5: store-only needs no source: the volume can be detached', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    await ferry.unmount()
    const away = join(ferry.root, 'taken away')
    renameSync(ferry.source, away)
    await ferry.mount()
    expect((await ferry.call.readFile(ferry.at('file'))).toString()).toBe('content')
    await ferry.call.writeFile(ferry.at('more'), 'and more')
    const back = await ferry.ferryfs('mode', ferry.target, 'drain')
    expect(back.status).not.toBe(0)
    expect(back.stderr).toMatch(/^ferryfs: source [^\n]*\n$/)
    expect((await ferry.status()).mode).toBe('store-only')
    await ferry.remount('--mode', 'store-only')
    expect((await ferry.call.readFile(ferry.at('more'))).toString()).toBe('and more')
    await ferry.unmount()
    await refused(
      ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir, '--mode', 'drain'],
      2,
      /SOURCE .* does not exist/,
    )
  })

  test('P3: a mode that records the volume does not go without it, and not with another in its place', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.unmount()
    const away = join(ferry.root, 'taken away')
    renameSync(ferry.source, away)
    const mount = ['mount', ferry.source, ferry.target, '--state-dir', ferry.stateDir]
    await refused(mount, 2, /source/i)
    mkdirSync(ferry.source)
    await refused(mount, 2, /is not the directory/)
    rmSync(ferry.source, { recursive: true })
    renameSync(away, ferry.source)
    await ferry.mount()
    expect((await ferry.call.readFile(ferry.at('file'))).toString()).toBe('content')
  })

  test('P3: store-only is refused with exit 3, the reason and the count, live and when mounting', async () => {
    writeFileSync(ferry.under('second'), 'another')
    const mounted = await ferry.tryMount('--mode', 'store-only')
    expect(mounted).toMatchObject({ status: 3, stdout: '' })
    expect(mounted.stderr).toMatch(
      /^ferryfs: mode store-only is refused: 2 files are not in the store yet; run[^\n]*\n$/,
    )
    expect(mountsOf(ferry.target)).toEqual([])
    await ferry.mount('--mode', 'drain')
    await refused(
      ['mode', ferry.target, 'store-only'],
      3,
      /mode store-only is refused: 2 files are not in the store/,
    )
    expect(await ferry.done('mode', ferry.target)).toBe('drain\n')
    await ferry.done('migrate', ferry.target, '--wait')
    expect(await ferry.mode('store-only')).toBe('store-only\n')
    await refused(
      ['mode', ferry.target, 'mirror'],
      3,
      /mode mirror is refused: \d+ files or names are no longer/,
    )
  })
})

function edit(file: string, statement: string): void {
  changeDatabase(file, (database) => {
    database.exec('PRAGMA journal_mode = DELETE')
    database.exec(statement)
  })
}
