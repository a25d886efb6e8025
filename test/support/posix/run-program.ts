import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'

export interface ProgramResult {
  readonly stdout: string
  readonly stderr: string
}

/** Whether the program is on the PATH. */
export async function hasProgram(program: string): Promise<boolean> {
  for (const directory of (process.env.PATH ?? '').split(':')) {
    const found = await access(join(directory, program), constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return true
  }
  return false
}

/**
 * Runs a program to its end with the C locale and nothing of the caller's personal configuration.
 * @throws Error with its output if it ends with anything but 0
 */
export function runProgram(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, LC_ALL: 'C', HOME: '/nonexistent', ...env },
    })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('latin1').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', (status, signal) => {
      if (status === 0) return resolve({ stdout, stderr })
      const output = `${stdout.slice(-2000)}${stderr.slice(-4000)}`
      reject(new Error(`${program} ${args.join(' ')} in ${cwd} ended with ${signal ?? status}:\n${output}`))
    })
  })
}
