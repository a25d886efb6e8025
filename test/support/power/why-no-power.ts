import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execFileSync } from 'node:child_process'
import { whyNoMount } from '../fuse/mounted.ts'
import { PowerDisks } from './power-disks.ts'

let known: { readonly why: string | undefined } | undefined

/** Why no disk can lose power here; undefined where it can. Tried once. */
export function whyNoPower(): string | undefined {
  known ??= { why: whyNoMount() ?? tried() }
  return known.why
}

function tried(): string | undefined {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-power-')))
  try {
    new PowerDisks(root, [join(root, 'disk')]).remove()
    execFileSync('unshare', ['--mount', 'true'], { stdio: ['ignore', 'ignore', 'pipe'] })
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
