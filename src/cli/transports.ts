import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { reasonOf } from '../base/errors.ts'
import type { Finding } from './machine.ts'

/** What decides which transport this machine and this user can use. */
export interface TransportFacts {
  readonly root: boolean
  /** CAP_SYS_ADMIN is in effect. */
  readonly mayMount: boolean
  /** Why /dev/fuse cannot be opened by this user, if it cannot. */
  readonly deviceTrouble: { readonly missing: boolean; readonly words: string } | undefined
  readonly hasMountProgram: boolean
  readonly fusermount: 'setuid' | 'not setuid' | 'missing'
  /** What loading fuse-native says, if it does not load. */
  readonly nativeTrouble: string | undefined
}

interface Lack {
  readonly what: string
  readonly advice: string
}

/** Bit of CAP_SYS_ADMIN in /proc/self/status, capability.h. */
const CAP_SYS_ADMIN = 21n

/** One finding for each transport: whether it can be used, and if not, what is missing and what to do. */
export function judgeTransports(facts: TransportFacts): Finding[] {
  const kernel = kernelLacks(facts)
  const native = nativeLacks(facts)
  const none = kernel.length > 0 && native.length > 0
  return [
    finding(
      'kernel',
      kernel,
      none,
      'root mounts and every user may use it; nothing is lost when a worker is killed',
    ),
    finding(
      'fuse-native',
      native,
      none,
      facts.root
        ? 'meant for users who are not root; take kernel'
        : 'mounts through fusermount, for this user alone; docs/transports.md has its limits',
    ),
  ]
}

function finding(name: string, lacks: readonly Lack[], none: boolean, good: string): Finding {
  if (lacks.length === 0) return { level: 'ok', what: `--transport ${name} can be used: ${good}`, advice: [] }
  return {
    level: none ? 'fail' : 'warn',
    what: `--transport ${name} cannot be used: ${lacks.map(({ what }) => what).join('; ')}`,
    advice: lacks.map(({ advice }) => advice),
  }
}

function kernelLacks({ root, mayMount, deviceTrouble, hasMountProgram }: TransportFacts): Lack[] {
  const lacks: Lack[] = []
  if (!root) lacks.push({ what: 'not root', advice: 'be root (sudo)' })
  else if (!mayMount) {
    lacks.push({
      what: 'root, but without CAP_SYS_ADMIN',
      advice: 'a container needs --cap-add SYS_ADMIN to mount',
    })
  }
  // What another user may not open says nothing about root.
  if (deviceTrouble && (root || deviceTrouble.missing)) lacks.push(deviceLack(deviceTrouble))
  if (!hasMountProgram) lacks.push({ what: 'mount(8) is missing', advice: 'install util-linux' })
  return lacks
}

function nativeLacks({ root, deviceTrouble, fusermount, nativeTrouble }: TransportFacts): Lack[] {
  const lacks: Lack[] = []
  if (nativeTrouble?.includes('libfuse')) {
    lacks.push({ what: 'no libfuse.so.2', advice: 'install it: apt-get install libfuse2' })
  } else if (nativeTrouble !== undefined) {
    lacks.push({
      what: 'the optional npm package fuse-native is not installed or does not load',
      advice: 'install it: npm install fuse-native@2.2.6',
    })
  }
  if (fusermount === 'missing') {
    lacks.push({ what: 'no fusermount', advice: 'install it: apt-get install fuse' })
  } else if (fusermount === 'not setuid' && !root) {
    lacks.push({ what: 'fusermount is not setuid root', advice: 'chown root and chmod 4755 it' })
  }
  if (deviceTrouble) lacks.push(deviceLack(deviceTrouble))
  return lacks
}

function deviceLack({ missing, words }: NonNullable<TransportFacts['deviceTrouble']>): Lack {
  return missing
    ? {
        what: 'there is no /dev/fuse',
        advice: 'load the module with "modprobe fuse"; a container needs --device /dev/fuse',
      }
    : {
        what: `/dev/fuse cannot be opened: ${words}`,
        advice:
          'let every user open it, as most systems do: chmod 666 /dev/fuse; a container needs --device /dev/fuse',
      }
}

/** Looks at this machine. */
export async function transportFacts(environment: NodeJS.ProcessEnv): Promise<TransportFacts> {
  const fusermount = findProgram('fusermount', environment)
  const bits = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return {
    root: process.geteuid?.() === 0,
    mayMount: ((BigInt(`0x${bits}`) >> CAP_SYS_ADMIN) & 1n) === 1n,
    deviceTrouble: deviceTrouble(),
    hasMountProgram: findProgram('mount', environment) !== undefined,
    fusermount: fusermount === undefined ? 'missing' : isSetuidRoot(fusermount) ? 'setuid' : 'not setuid',
    nativeTrouble: await loadTrouble('fuse-native'),
  }
}

function deviceTrouble(): TransportFacts['deviceTrouble'] {
  try {
    closeSync(openSync('/dev/fuse', 'r+'))
    return undefined
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    return { missing: code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO', words: reasonOf(error) }
  }
}

function findProgram(name: string, environment: NodeJS.ProcessEnv): string | undefined {
  const directories = [...(environment.PATH ?? '').split(':'), '/usr/bin', '/bin', '/usr/sbin', '/sbin']
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path))
}

function isSetuidRoot(path: string): boolean {
  const { uid, mode } = statSync(path)
  return uid === 0 && (mode & 0o4000) !== 0
}

/** What a native package says when it is loaded, in a process of its own because it may take that down. */
function loadTrouble(name: string): Promise<string | undefined> {
  let path: string
  try {
    path = createRequire(import.meta.url).resolve(name)
  } catch {
    return Promise.resolve('not installed')
  }
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['-e', 'require(process.argv[1])', '--', path], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let words = ''
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      words += part
    })
    child.once('error', (error) => resolve(error.message))
    child.once('close', (status) => resolve(status === 0 ? undefined : words || 'it does not load'))
  })
}
