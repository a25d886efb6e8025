import { constants } from 'node:fs'
import { FsError } from '../../../src/base/errors.ts'
import { Client } from './client.ts'
import type { Rig } from './rig.ts'

/**
 * Every path with what is behind it: the text of a file, the target of a symlink, `dir`; the errno in its place where the overlay
 * answers with one. Under `PATH/` the errno that ends the listing of a directory.
 */
export async function foundTree(rig: Rig, most = 10_000): Promise<Record<string, string>> {
  const client = new Client(rig)
  const found: Record<string, string> = {}
  const queue: Array<{ node: bigint; path: string }> = [{ node: 1n, path: '' }]
  for (const { node, path } of queue) {
    if (Object.keys(found).length > most) throw new Error('the tree has no end')
    for (const { name } of [...rig.catalog.dirents.all(node)]) {
      const below = `${path}/${name.toString('latin1')}`
      try {
        const { nodeId, attributes } = await rig.perform((overlay, request) =>
          overlay.lookup(request, node, name),
        )
        const type = attributes.mode & constants.S_IFMT
        if (type === constants.S_IFDIR) queue.push({ node: nodeId, path: below })
        if (type === constants.S_IFLNK)
          found[below] = (
            await rig.perform((overlay, request) => overlay.readlink(request, nodeId))
          ).toString()
        else
          found[below] = type === constants.S_IFREG ? (await client.read(nodeId)).toString('latin1') : 'dir'
      } catch (error) {
        if (!(error instanceof FsError)) throw error
        found[below] = error.code
      }
    }
    try {
      await client.list(node)
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      found[`${path}/`] = error.code
    }
  }
  return found
}
