import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Places, type Surroundings, sideBySide } from './ferry.ts'

/**
 * Surroundings with a small file system in memory in the directory `name`. `options`: as tmpfs has them. `on`: what of the places lies
 * on it, each in a directory of its own there.
 */
export function onSmallDisk(
  name: string,
  options: string,
  on: Partial<Places>,
): (root: string) => Surroundings {
  return (root) => {
    const disk = join(root, name)
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'small', disk])
    const places = Object.entries(on).map(([place, directory]) => [place, join(disk, directory)])
    return {
      ...sideBySide(root),
      ...Object.fromEntries(places),
      line: (command, args) => [command, [...args]],
      remove: () => void execFileSync('umount', ['-l', disk]),
    }
  }
}
