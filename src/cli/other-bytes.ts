import { isUtf8 } from 'node:buffer'
import { readFileSync, readlinkSync } from 'node:fs'
import { printable } from '../sys/index.ts'

const NUL = 0
const ADVICE =
  'restore has such a name with the directory that it is in; else rename it, or mount it elsewhere'

/** As the kernel has them, proc_pid_cmdline(5) and proc_pid_environ(5). */
export interface RawCall {
  /** NUL ends each argument; those of the program's own come last. */
  readonly commandLine: Buffer
  readonly environment: Buffer
  readonly workingDirectory: Buffer
}

/**
 * Node makes U+FFFD of bytes that are not UTF-8, so such a path would be that of another file (P1). What of a command line is
 * none, in one line; undefined if all of it is.
 * @param count how many of the arguments are the program's own
 */
export function otherBytes(count: number, call: RawCall = ownCall()): string | undefined {
  const given = count === 0 ? [] : parts(call.commandLine).slice(-count)
  const settings = parts(call.environment).filter((setting) =>
    setting.toString('latin1').startsWith('FERRYFS_'),
  )
  const wrong = [...given, ...settings].find((bytes) => !isUtf8(bytes))
  if (wrong) return `${printable(wrong)} is not valid UTF-8, and nothing is done; ${ADVICE}`
  if (isUtf8(call.workingDirectory)) return undefined
  return `the working directory ${printable(call.workingDirectory)} is not valid UTF-8, and nothing is done; change to another`
}

function ownCall(): RawCall {
  return {
    commandLine: readFileSync('/proc/self/cmdline'),
    environment: readFileSync('/proc/self/environ'),
    workingDirectory: readlinkSync('/proc/self/cwd', 'buffer'),
  }
}

/** Each ends with NUL. */
function parts(bytes: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(NUL, at)
    found.push(bytes.subarray(at, end === -1 ? bytes.length : end))
    at = end === -1 ? bytes.length : end + 1
  }
  return found
}
