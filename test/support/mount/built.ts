import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/**
 * The command line as it is shipped: dist/cli/main.js, built here if nothing has built it yet. FERRYFS_CLI names that of
 * another build, for instance of an installed package.
 */
export function builtCli(): string {
  const given = process.env.FERRYFS_CLI
  if (given !== undefined && given !== '') return given
  const built = `${ROOT}dist/cli/main.js`
  if (!existsSync(built)) execFileSync(process.execPath, ['scripts/bootstrap.mjs'], { cwd: ROOT })
  return built
}
