import { constants, mkdirSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { PageCache } from '../../support/rig/page-cache.ts'
import { Rig } from '../../support/rig/rig.ts'

// What a kernel asks by the number of a file that was replaced, removed or moved past the overlay within the time that it believes a
// name. On ESTALE it looks the path up again; any other answer would be an answer about a file that is not there.
const USER = Buffer.from('user.a')
let rig: Rig
let client: Client

afterEach(() => rig.stop())

describe.each(['observe', 'mirror', 'prefer-store'] as const)('P1: by a name that has gone, %s', (mode) => {
  async function start(parent?: string): Promise<void> {
    rig = await Rig.start({
      mode,
      ...(parent === undefined ? {} : { parent }),
      fill(source) {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/f'), 'old')
      },
    })
    client = new Client(rig)
  }

  test('extended attributes of a replaced file are not made up, nor those of the file in its place', async () => {
    await start()
    const node = await client.node('d/f')
    writeFileSync(join(rig.source, 'new'), 'new')
    renameSync(join(rig.source, 'new'), join(rig.source, 'd/f'))
    const ask = (): Promise<unknown> =>
      rig.perform((overlay, request) => overlay.getxattr(request, node, USER))
    await expect(ask()).rejects.toMatchObject({ code: 'ESTALE' })
    await client.lookup('d/f')
    await expect(ask()).rejects.toMatchObject({ code: 'ESTALE' })
    await expect(rig.perform((overlay, request) => overlay.listxattr(request, node))).rejects.toMatchObject({
      code: 'ESTALE',
    })
  })

  test('a removed file cannot be opened, whoever has noticed first', async () => {
    await start()
    const node = await client.node('d/f')
    unlinkSync(join(rig.source, 'd/f'))
    const open = (): Promise<unknown> =>
      rig.perform((overlay, request) => overlay.open(request, node, constants.O_RDONLY))
    await expect(open()).rejects.toMatchObject({ code: 'ESTALE' })
    expect(await client.exists('d/f')).toBe(false)
    await expect(open()).rejects.toMatchObject({ code: 'ESTALE' })
  })

  // ext4 gives the number of a removed file to what is made next.
  test('a directory in the place of a file, with its number, is not answered for by the node of the file', async () => {
    await start(tmpdir())
    const node = await client.node('d/f')
    unlinkSync(join(rig.source, 'd/f'))
    mkdirSync(join(rig.source, 'd/f'))
    const gone = { code: 'ESTALE' }
    await expect(rig.perform((overlay, request) => overlay.getattr(request, node))).rejects.toMatchObject(
      gone,
    )
    await expect(
      rig.perform((overlay, request) => overlay.open(request, node, constants.O_RDONLY)),
    ).rejects.toMatchObject(gone)
    const directory = await client.node('d/f')
    expect(directory).not.toBe(node)
    rmdirSync(join(rig.source, 'd/f'))
    writeFileSync(join(rig.source, 'd/f'), 'new')
    await expect(
      rig.perform((overlay, request) => overlay.getattr(request, directory)),
    ).rejects.toMatchObject(gone)
    expect(await client.node('d/f')).not.toBe(directory)
  })

  test('a directory that was moved is not opened under its old name, nor listed as empty', async () => {
    await start()
    const node = await client.node('d')
    const open = (): Promise<unknown> => rig.perform((overlay, request) => overlay.opendir(request, node))
    await open()
    renameSync(join(rig.source, 'd'), join(rig.source, 'e'))
    await expect(open()).rejects.toMatchObject({ code: 'ESTALE' })
    expect(await client.exists('d')).toBe(false)
    await expect(open()).rejects.toMatchObject({ code: 'ESTALE' })
    await expect(client.list(node)).rejects.toMatchObject({ code: 'ESTALE' })
    expect((await client.list(await client.node('e'))).map(String)).toEqual(['f'])
  })
})

describe.each(['observe', 'mirror', 'prefer-store'] as const)(
  'P1: attributes that the kernel has, %s',
  (mode) => {
    async function kernelOf(content: string): Promise<PageCache> {
      rig = await Rig.start({ mode, fill: (source) => writeFileSync(join(source, 'f'), content) })
      return new PageCache(rig, await new Client(rig).node('f'))
    }

    test('the size is right at the next open, though the kernel has dropped the newer of two answers', async () => {
      const kernel = await kernelOf('old')
      await kernel.stat()
      writeFileSync(join(rig.source, 'f'), 'longer than before')
      // Asked for by somebody else before the kernel applied what it has, so it does not take this.
      const node = await new Client(rig).node('f')
      await rig.perform((overlay, request) => overlay.getattr(request, node))
      expect(await kernel.openAndRead()).toBe('longer than before')
    })

    test('who has read newer bytes is not told the older size after that', async () => {
      const kernel = await kernelOf('a'.repeat(4096))
      await kernel.stat()
      const handle = await kernel.open()
      writeFileSync(join(rig.source, 'f'), 'b'.repeat(8192))
      expect((await kernel.read()).subarray(0, 4096).toString()).toBe('b'.repeat(4096))
      expect((await kernel.stat()).size).toBe(8192)
      await kernel.close(handle)
    })
  },
)

describe.each(['prefer-store', 'drain'] as const)('P1: below a directory that was moved past, %s', (mode) => {
  test('files are opened by the new path, whichever of its names the catalog thinks of first', async () => {
    rig = await Rig.start({
      mode,
      fill(source) {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/f'), 'old')
      },
    })
    client = new Client(rig)
    // Changed here, so that in drain the catalog has authority and keeps the old name.
    const node = await client.node('d')
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o700 }))
    await client.node('d/f')
    renameSync(join(rig.source, 'd'), join(rig.source, 'e'))
    await client.node('e')
    rig.forgetDescriptors()
    const file = await client.node('e/f')
    await rig.perform((overlay, request) => overlay.open(request, file, constants.O_RDONLY))
    expect((await client.list(await client.node('e'))).map(String)).toEqual(['f'])
  })
})
