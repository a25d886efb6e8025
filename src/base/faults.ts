import { existsSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'

/**
 * Named places between two durable steps. With FERRYFS_FAULT=<name> the process kills itself there (SIGKILL, as a crash
 * would), once; `name:3` at the third passage, `name=9` where the passage is one of kind 9 (a request's opcode), `name!`
 * together with its parent, a worker's supervisor. Tests of crash points stop exactly where they mean to, with no timer.
 *
 * FERRYFS_FAULT=@<file> takes the name from a file, looked for at each passage: so a point is armed in a process that
 * runs already. The file is removed before the kill: that it is gone says that the point was reached, and the process
 * that comes next is not killed again, unless there are more lines in it: these are for whoever comes next.
 */
const setting = process.env.FERRYFS_FAULT ?? ''
const armedFile = setting.startsWith('@') ? setting.slice(1) : undefined
let armed = ''
let armedName = ''
let armedKind: string | undefined
let takesParent = false
let left = 0
if (armedFile === undefined) arm(setting)

/** Where a handler wants to act instead of a kill (deterministic tests without processes). */
let handler: ((name: string, kind: number | undefined) => void) | undefined

export function onFaultPoint(listen: ((name: string, kind: number | undefined) => void) | undefined): void {
  handler = listen
}

/** Does nothing unless this very point is armed. */
export function faultPoint(name: string, kind?: number): void {
  handler?.(name, kind)
  if (armedFile !== undefined) look(armedFile)
  if (armedName !== name) return
  if (armedKind !== undefined && armedKind !== String(kind)) return
  left -= 1
  if (left !== 0) return
  if (armedFile !== undefined) disarm(armedFile)
  if (takesParent) process.kill(process.ppid, 'SIGKILL')
  process.kill(process.pid, 'SIGKILL')
}

function arm(text: string): void {
  const [line = ''] = text.split('\n')
  const [which = '', nth] = line.replace('!', '').split(':')
  const [name = '', kind] = which.split('=')
  armed = text
  takesParent = line.includes('!')
  armedName = name
  armedKind = kind
  left = Number(nth ?? 1)
}

function disarm(file: string): void {
  const rest = armed.split('\n').slice(1).join('\n')
  if (rest === '') unlinkSync(file)
  else writeFileSync(file, rest)
}

function look(file: string): void {
  let text = ''
  try {
    // A look at the name first: an exception at every passage would slow down a daemon that is not armed.
    if (existsSync(file)) text = readFileSync(file, 'utf8').trim()
  } catch {
    // Not armed any more.
  }
  if (text !== armed) arm(text)
}
