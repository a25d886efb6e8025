import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs'
import { release, totalmem } from 'node:os'
import { dirname } from 'node:path'
import { defaultStateRoot } from '../config/paths.ts'
import { formatBytes } from '../config/units.ts'
import { judgeTransports, transportFacts } from './transports.ts'

/** One thing that was looked at. `advice` says what to do, in lines to read or to type, unless it is ok. */
export interface Finding {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly what: string
  readonly advice: readonly string[]
}

const ok = (what: string): Finding => ({ level: 'ok', what, advice: [] })
const warn = (what: string, advice: string): Finding => ({ level: 'warn', what, advice: [advice] })
const fail = (what: string, advice: string): Finding => ({ level: 'fail', what, advice: [advice] })

// As `engines` in package.json has it.
const NODE_VERSION = [22, 22] as const

// The first kernel that sends unanswered FUSE requests again (FUSE_NOTIFY_RESEND).
const KERNEL_VERSION = [6, 9] as const

// A worker with its caches takes about 200 MiB, the supervisor 60 MiB.
const MEMORY_BYTES = 512 * 1024 * 1024

// Room for a catalog of a million files and some staging.
const STATE_BYTES = 1024 * 1024 * 1024

// Open files of applications are open files of the worker too.
const OPEN_FILES = 4096

/** Whether this machine is fit to run ferryfs, one finding for each requirement. */
export async function inspectMachine(environment: NodeJS.ProcessEnv): Promise<Finding[]> {
  return [
    checkNode(process.versions.node),
    checkKernel(release()),
    ...judgeTransports(await transportFacts(environment)),
    ...checkRemount(existsSync),
    checkWritable('the default state directory', defaultStateRoot(environment), 'warn'),
    checkMemory(),
    checkOpenFiles(),
  ]
}

// Where mount(8) looks for helpers, and where the helper of the package fuse looks for the program that serves.
const HELPERS = ['/sbin/mount.fuse', '/sbin/mount.fuse3', '/usr/sbin/mount.fuse', '/usr/sbin/mount.fuse3']
const PROGRAMS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** Whether "mount -o remount" and fstab(5) reach ferryfs. */
export function checkRemount(exists: (path: string) => boolean): Finding[] {
  const helper = HELPERS.find(exists)
  if (helper === undefined) return []
  const program = PROGRAMS.map((directory) => `${directory}/ferryfs`).find(exists)
  return [
    program
      ? ok(`"mount -o remount" works: ${helper} finds ${program}`)
      : warn(
          `"mount -o remount" does not work: ${helper} finds no ferryfs`,
          'put it into /usr/local/bin (npm install -g), or use "mount -i -o remount,…"',
        ),
  ]
}

/** Whether a dotted version is at least `wanted`. */
export function isAtLeast(version: string, wanted: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  return major !== wanted[0] ? major > wanted[0] : minor >= wanted[1]
}

function checkNode(version: string): Finding {
  const what = `Node.js ${version}`
  return isAtLeast(version, NODE_VERSION)
    ? ok(what)
    : fail(what, `install ${NODE_VERSION.join('.')} or later`)
}

function checkKernel(version: string): Finding {
  const what = `Linux ${version}`
  return isAtLeast(version, KERNEL_VERSION)
    ? ok(`${what}: applications live through a crash or upgrade of the worker`)
    : warn(
        what,
        `works, but when the worker is killed the mount is made anew and open files are lost; ` +
          `${KERNEL_VERSION.join('.')} or later avoids that`,
      )
}

/** @param path a directory that need not exist yet; @param level of the finding if it cannot be written */
export function checkWritable(name: string, path: string, level: 'warn' | 'fail'): Finding {
  let existing = path
  while (!existsSync(existing)) existing = dirname(existing)
  try {
    accessSync(existing, constants.W_OK | constants.X_OK)
  } catch {
    return {
      level,
      what: `${name} ${path} cannot be written`,
      advice: ['give another, or the right to write'],
    }
  }
  const { bavail, bsize } = statfsSync(existing)
  const free = bavail * bsize
  return free < STATE_BYTES
    ? warn(`${name} ${path} has ${formatBytes(free)} left`, `give it ${formatBytes(STATE_BYTES)} or more`)
    : ok(`${name} ${path} can be written, ${formatBytes(free)} free`)
}

function checkMemory(): Finding {
  // A control group's limit, where there is one, is what the kernel will enforce.
  const limit = process.constrainedMemory()
  const bytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  const what = `${formatBytes(bytes)} of memory`
  return bytes >= MEMORY_BYTES
    ? ok(what)
    : warn(what, `give it ${formatBytes(MEMORY_BYTES)}, or lower memoryCacheLimit and concurrency`)
}

function checkOpenFiles(): Finding {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited'
  return hard === 'unlimited' || Number(hard) >= OPEN_FILES
    ? ok(`up to ${hard} open files`)
    : warn(`only ${hard} open files`, `raise the limit to ${OPEN_FILES} or more (LimitNOFILE=, ulimit -Hn)`)
}
