import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { walkTree } from './clients/walk.ts'
import type { World } from './world/world.ts'

const FILES = ['catalog.db', 'catalog.db-wal', 'daemon.log']

/** Puts beside the report what a case that broke a promise leaves: catalog, log, what volume and replicas have. */
export function keepEvidence(world: World, directory: string): void {
  mkdirSync(directory, { recursive: true })
  const { stateDir } = world.daemon.places
  for (const name of FILES) {
    const file = join(stateDir, name)
    if (existsSync(file)) copyFileSync(file, join(directory, name))
  }
  const legacy = walkTree(Buffer.from(world.legacy), { content: false })
  const lines = legacy.map(({ path, type, size, links, ino }) => `${type} ${ino} ${links} ${size} ${path}`)
  writeFileSync(join(directory, 'legacy.txt'), `${lines.join('\n')}\n`)
  writeFileSync(join(directory, 'replicas.txt'), replicasOf(world).join('\n'))
}

/** What each replica in the simulated cluster holds of each key: sizes of its siblings, `-` for a tombstone. */
function replicasOf({ store: { simulator } }: World): string[] {
  const state = simulator?.state
  return (state?.allKeys() ?? []).map((target) => {
    const replicas = [...(state?.replicas(target) ?? [])].map(
      ([where, values]) => `${where}=${values.map((value) => value?.length ?? '-').join('|')}`,
    )
    return `${target.bucket.name}/${target.key} ${replicas.join(' ')}`
  })
}
