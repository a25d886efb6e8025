import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isDirectory } from '../../../src/base/attributes.ts'
import type { Client } from './client.ts'
import type { Rig } from './rig.ts'

/** Mounts with the copy of the state directory that lies in `copy` beside it. */
export const putBackCopy = (rig: Rig): Promise<void> =>
  rig.mountDamaged((stateDir) => {
    rmSync(stateDir, { recursive: true })
    cpSync(join(rig.root, 'copy'), stateDir, { recursive: true })
  })

/** Versions of all objects in the store, by `space key`. */
export async function versionsOf(rig: Rig): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for (const space of ['files', 'chunks', 'dirs'] as const)
    for await (const key of rig.world.memory.keys(space))
      found[`${space} ${key}`] = (await rig.world.memory.get(space, key))?.version
  return found
}

/** What the overlay shows: content by path, `/` for a directory. */
export async function contentOf(client: Client): Promise<Record<string, string>> {
  return Object.fromEntries(
    [...(await client.tree())].map(([path, { mode, content }]) => [
      path.slice(1),
      isDirectory(Number.parseInt(mode, 8)) ? '/' : content.toString('latin1'),
    ]),
  )
}
