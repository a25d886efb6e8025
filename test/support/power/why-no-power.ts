import { execFile } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { whyNoMount } from '../fuse/mounted.ts'
import { PowerDisks } from './power-disks.ts'

let known: Promise<string | undefined> | undefined

/** Why no disk can lose power here; undefined where it can. Tried once. */
export function whyNoPower(): Promise<string | undefined> {
  known ??= tried()
  return known
}

async function tried(): Promise<string | undefined> {
  const unmountable = whyNoMount()
  if (unmountable !== undefined) return unmountable
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-power-')))
  try {
    await (await PowerDisks.make(root, [join(root, 'disk')])).remove()
    await promisify(execFile)('unshare', ['--mount', 'true'])
    return undefined
  } catch (error) {
    const [reason] = String(error instanceof Error ? error.message : error)
      .split('\n')
      .slice(-2)
    return `needs btrfs (package btrfs-progs), loop devices and mount namespaces: ${reason}`
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}
