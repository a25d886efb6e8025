import { createHash } from 'node:crypto'
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Agent } from '../support/posix/agent.ts'
import { compareTrees } from '../support/posix/compare-trees.ts'
import { hasProgram, runProgram } from '../support/posix/run-program.ts'

/** What a program did, as numbers that tell a full run from an empty one. */
export interface ProgramReport {
  readonly program: string
  /** Why it did not run here. */
  readonly skipped?: string
  readonly counts: Readonly<Record<string, number>>
}

interface Program {
  readonly name: string
  /** Programs that have to be installed. */
  readonly needs: readonly string[]
  /** Works in a fresh directory and throws if anything came out wrong. */
  run(directory: string): Promise<Record<string, number>>
}

function text(seed: number, length: number): string {
  const words = ['ferry', 'harbour', 'crossing', 'timetable', 'deck', 'anchor', 'tide', 'berth']
  let state = seed >>> 0
  let result = ''
  while (result.length < length) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    result += `${words[state >>> 29]} ${(state >>> 20).toString(36)}${(state >>> 4) % 7 === 0 ? '\n' : ' '}`
  }
  return result.slice(0, length)
}

/** A source tree of text files, an executable and links; the number of files in it. */
async function makeSources(root: string, directories: number, filesEach: number): Promise<number> {
  await mkdir(root, { recursive: true })
  for (let d = 0; d < directories; d++) {
    await mkdir(`${root}/dir-${d}/nested`, { recursive: true })
    for (let f = 0; f < filesEach; f++) {
      const path = `${root}/dir-${d}/${f % 3 === 0 ? 'nested/' : ''}file-${f}.txt`
      await writeFile(path, text(d * 1000 + f, 200 + ((d * 7919 + f * 104_729) % 20_000)))
    }
    await symlink(`dir-${d}/file-1.txt`, `${root}/link-${d}`)
  }
  await writeFile(`${root}/run.sh`, '#!/bin/sh\necho ran\n')
  await chmod(`${root}/run.sh`, 0o755)
  return directories * (filesEach + 1) + 1
}

/** Path → content or link target of everything in a tree but what `ignore` names at its top. */
async function contentsOf(root: string, ignore: readonly string[] = []): Promise<Map<string, string>> {
  const contents = new Map<string, string>()
  const visit = async (path: string) => {
    for (const name of (await readdir(join(root, path))).sort()) {
      if (path === '' && ignore.includes(name)) continue
      const below = join(path, name)
      const stat = await lstat(join(root, below))
      if (stat.isDirectory()) await visit(below)
      else if (stat.isSymbolicLink()) contents.set(below, `-> ${await readlink(join(root, below))}`)
      else
        contents.set(
          below,
          createHash('sha256')
            .update(await readFile(join(root, below)))
            .digest('hex'),
        )
    }
  }
  await visit('')
  return contents
}

function expectEqual(what: string, actual: unknown, expected: unknown): void {
  const [a, e] = [actual, expected].map((value) => JSON.stringify(value instanceof Map ? [...value] : value))
  if (a !== e) throw new Error(`${what}: ${a?.slice(0, 2000)}, not ${e?.slice(0, 2000)}`)
}

const GIT_ENVIRONMENT = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'A',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'A',
  GIT_COMMITTER_EMAIL: 'a@example.org',
}

const git: Program = {
  name: 'git: commit, clone, fsck, gc, check out',
  needs: ['git'],
  async run(directory) {
    const [source, clone] = [`${directory}/source`, `${directory}/clone`]
    const run = (cwd: string, ...args: string[]) => runProgram('git', args, cwd, GIT_ENVIRONMENT)
    const files = await makeSources(source, 8, 15)
    await run(source, 'init', '-q', '-b', 'main')
    const commits = 6
    for (let commit = 0; commit < commits; commit++) {
      await writeFile(`${source}/dir-${commit}/file-2.txt`, text(commit, 5000))
      await rm(`${source}/dir-${commit}/file-4.txt`)
      await writeFile(`${source}/dir-${commit}/new-${commit}.txt`, text(commit + 50, 3000))
      await run(source, 'add', '-A')
      await run(source, 'commit', '-q', '-m', `commit ${commit}`)
    }
    await run(directory, 'clone', '-q', '--no-local', source, clone)
    expectEqual('the clone', await contentsOf(clone, ['.git']), await contentsOf(source, ['.git']))
    await run(clone, 'gc', '-q', '--prune=now')
    for (const repository of [source, clone]) await run(repository, 'fsck', '--full', '--strict')
    await run(clone, 'checkout', '-q', `HEAD~${commits - 1}`)
    await readFile(`${clone}/dir-3/file-4.txt`)
    await run(clone, 'checkout', '-q', 'main')
    expectEqual(
      'the tree after going back and forth',
      await contentsOf(clone, ['.git']),
      await contentsOf(source, ['.git']),
    )
    expectEqual('git status', (await run(clone, 'status', '--porcelain')).stdout, '')
    return {
      files,
      commits,
      objects: Number((await run(clone, 'rev-list', '--objects', '--all', '--count')).stdout),
    }
  },
}

/** Holds a copy against its source with everything that a snapshot knows of them. */
async function expectSameTrees(source: string, copy: string): Promise<number> {
  const agent = new Agent('compare', null)
  try {
    const before = await agent.call.snapshot(source)
    expectEqual('differences', compareTrees(before, await agent.call.snapshot(copy)), [])
    return before.length
  } finally {
    await agent.stop()
  }
}

const tar: Program = {
  name: 'tar there and back',
  needs: ['tar'],
  async run(directory) {
    await makeSources(`${directory}/source`, 10, 20)
    await mkdir(`${directory}/copy`)
    await runProgram('tar', ['--format=posix', '-C', 'source', '-cf', 'archive.tar', '.'], directory)
    await runProgram('tar', ['-C', 'copy', '-xpf', 'archive.tar'], directory)
    return { entries: await expectSameTrees(`${directory}/source`, `${directory}/copy`) }
  },
}

const rsync: Program = {
  name: 'rsync -aHAX out and back',
  needs: ['rsync'],
  async run(directory) {
    const outside = await mkdtemp(join(tmpdir(), 'ferryfs-rsync-'))
    try {
      await makeSources(`${directory}/source`, 8, 20)
      await runProgram('ln', ['source/dir-0/file-1.txt', 'source/hard-link'], directory)
      for (const [from, to] of [
        [`${directory}/source/`, `${outside}/out`],
        [`${outside}/out/`, `${directory}/back`],
      ] as const) {
        // -1: nanoseconds count; by default times within one second are equal and left as they are.
        await runProgram('rsync', ['-aHAX', '--modify-window=-1', from, to], directory)
        const again = await runProgram(
          'rsync',
          ['-aHAXi', '--modify-window=-1', '--checksum', '--dry-run', '--delete', from, to],
          directory,
        )
        expectEqual(`what is left to copy from ${from} to ${to}`, again.stdout, '')
      }
      return { entries: await expectSameTrees(`${directory}/source`, `${directory}/back`) }
    } finally {
      await rm(outside, { recursive: true })
    }
  },
}

const sqlite: Program = {
  name: 'SQLite: three writers in WAL mode',
  needs: [],
  async run(directory) {
    const path = `${directory}/database`
    const [writers, transactions, rows] = [3, 30, 20]
    const worker = fileURLToPath(new URL('../support/posix/sqlite-worker.ts', import.meta.url))
    const sql = (statement: string): Promise<unknown> =>
      runProgram(
        process.execPath,
        [
          '--disable-warning=ExperimentalWarning',
          '-e',
          'const { DatabaseSync } = require("node:sqlite"); const d = new DatabaseSync(process.argv[1]);' +
            'console.log(JSON.stringify(d.prepare(process.argv[2]).all())); d.close()',
          path,
          statement,
        ],
        directory,
      ).then(({ stdout }) => JSON.parse(stdout))
    await sql('PRAGMA journal_mode = WAL')
    await sql(
      'CREATE TABLE entries (writer TEXT, number INTEGER, payload TEXT, sha256 TEXT, PRIMARY KEY (writer, number))',
    )
    await sql('CREATE TABLE totals (id INTEGER PRIMARY KEY, rows INTEGER)')
    await sql('INSERT INTO totals VALUES (1, 0)')
    await Promise.all(
      Array.from({ length: writers }, (_, writer) =>
        runProgram(
          process.execPath,
          ['--disable-warning=ExperimentalWarning', worker, path, `w${writer}`, `${transactions}`, `${rows}`],
          directory,
        ),
      ),
    )
    // Each tenth transaction was rolled back.
    const expected = writers * rows * (transactions - transactions / 10)
    expectEqual('the integrity check', await sql('PRAGMA integrity_check'), [{ integrity_check: 'ok' }])
    expectEqual('the total', await sql('SELECT rows FROM totals'), [{ rows: expected }])
    await sql('PRAGMA wal_checkpoint(TRUNCATE)')
    const entries = await sql('SELECT writer, number, payload, sha256 FROM entries')
    if (!Array.isArray(entries)) throw new Error('the database gave no rows')
    let checked = 0
    for (const row of entries) {
      if (!isEntry(row)) throw new Error(`not a row: ${JSON.stringify(row)}`)
      expectEqual(
        `${row.writer} ${row.number}`,
        createHash('sha256').update(row.payload).digest('hex'),
        row.sha256,
      )
      checked += 1
    }
    expectEqual('rows', checked, expected)
    return { writers, transactions: writers * transactions, rows: checked }
  },
}

function isEntry(row: unknown): row is { writer: string; number: number; payload: string; sha256: string } {
  return (
    typeof row === 'object' &&
    row !== null &&
    'writer' in row &&
    'number' in row &&
    'payload' in row &&
    'sha256' in row &&
    typeof row.payload === 'string'
  )
}

const build: Program = {
  name: 'a C program built by make -j2',
  needs: ['make', 'gcc'],
  async run(directory) {
    const modules = 50
    await mkdir(`${directory}/build`)
    await writeFile(`${directory}/common.h`, '#define OFFSET 7\n')
    for (let n = 0; n < modules; n++) {
      await writeFile(`${directory}/m${n}.h`, `int f${n}(int);\n`)
      const next = n + 1 < modules ? `#include "m${n + 1}.h"\n` : ''
      const call = n + 1 < modules ? `f${n + 1}(x + OFFSET)` : 'x'
      const common = '#include "common.h"\n'
      await writeFile(
        `${directory}/m${n}.c`,
        `${common}#include "m${n}.h"\n${next}int f${n}(int x) { return ${call}; }\n`,
      )
    }
    await writeFile(
      `${directory}/main.c`,
      '#include <stdio.h>\n#include "m0.h"\nint main(void) { printf("%d\\n", f0(1)); return 0; }\n',
    )
    await writeFile(
      `${directory}/Makefile`,
      'OBJECTS = $(patsubst %.c,build/%.o,$(wildcard *.c))\n' +
        'program: $(OBJECTS)\n\t@echo LINK\n\t@gcc -o $@ $^\n' +
        'build/%.o: %.c\n\t@echo CC $<\n\t@gcc -O0 -MMD -c -o $@ $<\n' +
        '-include $(OBJECTS:.o=.d)\n',
    )
    const make = async () => {
      const { stdout } = await runProgram('make', ['-j2', 'program'], directory)
      return stdout.split('\n').filter((line) => line.startsWith('CC ') || line === 'LINK').length
    }
    const result = async () => Number((await runProgram(`${directory}/program`, [], directory)).stdout)
    expectEqual('steps of the first build', await make(), modules + 2)
    expectEqual('the program says', await result(), 1 + 7 * (modules - 1))
    expectEqual('steps where nothing changed', await make(), 0)
    await writeFile(`${directory}/m25.h`, 'int f25(int); /* changed */\n')
    expectEqual('steps after one header', await make(), 3)
    await writeFile(`${directory}/common.h`, '#define OFFSET 9\n')
    expectEqual('steps after the common header', await make(), modules + 1)
    expectEqual('the program says then', await result(), 1 + 9 * (modules - 1))
    return { files: 2 * modules + 3, steps: modules + 2 + 3 + modules + 1 }
  },
}

const npm: Program = {
  name: 'npm install of local packages',
  needs: ['npm'],
  async run(directory) {
    const environment = {
      HOME: directory,
      npm_config_cache: `${directory}/cache`,
      npm_config_update_notifier: 'false',
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_offline: 'true',
    }
    const packages = 6
    const tarballs: string[] = []
    for (let n = 0; n < packages; n++) {
      const root = `${directory}/package-${n}`
      await mkdir(`${root}/lib`, { recursive: true })
      for (let f = 0; f < 20; f++)
        await writeFile(`${root}/lib/${f}.js`, `// ${text(n * 100 + f, 3000).replaceAll('\n', ' ')}\n`)
      await writeFile(`${root}/bin.js`, `#!/usr/bin/env node\nconsole.log('package ${n}')\n`)
      const manifest = { name: `ferry-test-${n}`, version: '1.0.0', bin: { [`ferry-test-${n}`]: 'bin.js' } }
      await writeFile(`${root}/package.json`, JSON.stringify(manifest))
      await runProgram('npm', ['pack', '--silent', '--pack-destination', directory], root, environment)
      tarballs.push(`${directory}/ferry-test-${n}-1.0.0.tgz`)
    }
    const project = `${directory}/project`
    await mkdir(project)
    await writeFile(`${project}/package.json`, JSON.stringify({ name: 'project', version: '1.0.0' }))
    await runProgram('npm', ['install', '--silent', ...tarballs], project, environment)
    // From the lock file and the cache, into the place of the first tree.
    await runProgram('npm', ['ci', '--silent'], project, environment)
    for (let n = 0; n < packages; n++) {
      const installed = `${project}/node_modules/ferry-test-${n}`
      expectEqual(`package ${n}`, await contentsOf(installed), await contentsOf(`${directory}/package-${n}`))
      const { stdout } = await runProgram(`${project}/node_modules/.bin/ferry-test-${n}`, [], project)
      expectEqual('its program', stdout, `package ${n}\n`)
    }
    return { packages, files: (await contentsOf(`${project}/node_modules`)).size }
  },
}

export const programs: readonly Program[] = [git, tar, rsync, sqlite, build, npm]

/** Runs one of `programs` in a directory of its own below `parent`, which is removed afterwards. */
export async function runInDirectory(program: Program, parent: string): Promise<ProgramReport> {
  for (const needed of program.needs) {
    if (await hasProgram(needed)) continue
    const skipped = `${needed} is not installed`
    console.info(`${program.name}: skipped, ${skipped}`)
    return { program: program.name, skipped, counts: {} }
  }
  const directory = await mkdtemp(join(parent, 'program-'))
  try {
    return { program: program.name, counts: await program.run(directory) }
  } finally {
    await rm(directory, { recursive: true })
  }
}
