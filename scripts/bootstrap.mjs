// Makes a fresh clone runnable: installs the pinned packages if they are missing or older than the lock
// file, and builds src/ if dist/ is older than it. Plain JavaScript for any Node from 18 on, because it
// runs before the pinned Node is there.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const modifiedMs = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0)

const newestMs = (directory) =>
  readdirSync(directory, { withFileTypes: true, recursive: true }).reduce(
    (newest, entry) => Math.max(newest, modifiedMs(join(entry.parentPath ?? entry.path, entry.name))),
    0,
  )

const run = (command, args) =>
  execFileSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })

if (modifiedMs(join(root, 'node_modules/.package-lock.json')) < modifiedMs(join(root, 'package-lock.json'))) {
  // Versions come from the lock file. Not `npm ci`: it also demands the packages of other platforms, which a mirror of
  // the registry may not have. Standard output belongs to the command that follows; npm's chatter goes to standard error.
  execFileSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', process.stderr, 'inherit'],
  })
}
const stamp = join(root, 'dist/.built')
if (modifiedMs(stamp) < Math.max(newestMs(join(root, 'src')), modifiedMs(join(root, 'scripts/build.mjs')))) {
  run(join(root, 'node_modules/.bin/node'), ['scripts/build.mjs'])
  writeFileSync(stamp, '')
}
