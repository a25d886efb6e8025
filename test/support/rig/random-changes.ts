import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FsError } from '../../../src/base/errors.ts'
import { isDirectory } from '../../../src/base/attributes.ts'
import type { Client } from './client.ts'
import type { Random } from './random.ts'
import type { Rig } from './rig.ts'

// Few names, so that what is made anew comes where something was.
const NAMES = ['a', 'b', 'c', 'd', 'e']
const MOST_LEVELS = 5

/** Fills a directory with a tree that only the random numbers decide on. */
export const randomTree =
  (random: Random) =>
  (source: string): void => {
    const files: string[] = []
    const fill = (directory: string, level: number): void => {
      for (const name of NAMES) {
        const path = join(directory, name)
        const what = random.below(level === 0 ? 4 : 6)
        if (what === 0 && level < MOST_LEVELS) {
          mkdirSync(path)
          fill(path, level + 1)
        } else if (what === 1 || (what === 2 && files.length === 0)) {
          writeFileSync(path, `${files.length} ${'x'.repeat(random.below(2) * 200)}`)
          files.push(path)
        } else if (what === 2) linkSync(files[random.below(files.length)] ?? '', path)
      }
    }
    mkdirSync(join(source, 'top'))
    fill(join(source, 'top'), 1)
    fill(source, 0)
  }

/** Changes that applications make, one after the other; what cannot be done is an error like any. */
export class RandomChanges {
  readonly #rig: Rig
  readonly #client: Client
  readonly #random: Random
  #made = 0

  constructor(rig: Rig, client: Client, random: Random) {
    this.#rig = rig
    this.#client = client
    this.#random = random
  }

  async make(count: number): Promise<void> {
    for (let nth = 0; nth < count; nth += 1) {
      try {
        await this.#one()
      } catch (error) {
        if (!(error instanceof FsError)) throw error
      }
    }
    this.#client.forgetAll()
  }

  async #one(): Promise<void> {
    const client = this.#client
    const all = [...(await client.tree())].map(([path, { mode }]) => ({
      path: path.slice(1),
      isDirectory: isDirectory(Number.parseInt(mode, 8)),
    }))
    const any = (kind?: 'file' | 'directory'): string => {
      const some = all.filter((one) => kind === undefined || one.isDirectory === (kind === 'directory'))
      return some[this.#random.below(some.length)]?.path ?? 'none'
    }
    const anew = (): string => {
      const directory = this.#random.below(4) === 0 ? '' : any('directory')
      return `${directory}/${NAMES[this.#random.below(NAMES.length)]}`
    }
    this.#made += 1
    const content = `made ${this.#made} ${'y'.repeat(this.#random.below(2) * 200)}`
    switch (this.#random.below(10)) {
      case 0:
      case 1:
        await client.create(anew(), content)
        break
      case 2:
        await client.mkdir(anew())
        break
      case 3:
        await client.overwrite(any('file'), 0, content)
        break
      case 4:
        await client.unlink(any('file'))
        break
      case 5:
        await this.#removeTree(
          any('directory'),
          all.map(({ path }) => path),
        )
        break
      case 6: {
        const [from, to] = [any('directory'), anew().replace(/^\//, '')]
        // The kernel lets nobody put a directory below itself.
        if (!`${to}/`.startsWith(`${from}/`)) await client.rename(from, to)
        break
      }
      case 7:
        await client.rename(any('file'), anew())
        break
      case 8:
        await client.link(any('file'), anew())
        break
      default: {
        const node = await client.node(any())
        const mode = 0o600 + this.#random.below(0o100)
        await this.#rig.perform((overlay, request) => overlay.setattr(request, node, { mode }))
      }
    }
  }

  async #removeTree(directory: string, all: readonly string[]): Promise<void> {
    const below = all.filter((path) => path.startsWith(`${directory}/`)).reverse()
    for (const path of [...below, directory]) {
      const entry = await this.#client.lookup(path)
      const { parent, name } = await this.#client.place(path)
      const isOne = entry !== undefined && isDirectory(entry.attributes.mode)
      await this.#rig.perform((overlay, request) =>
        isOne ? overlay.rmdir(request, parent, name) : overlay.unlink(request, parent, name),
      )
    }
  }
}
