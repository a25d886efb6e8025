import { constants, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { PageCache } from '../../support/rig/page-cache.ts'
import { Rig } from '../../support/rig/rig.ts'

const PAGE = 4096
const SIZE = 4 * PAGE + 100

let rig: Rig

afterEach(async () => {
  await rig.stop()
})

/**
 * A read-ahead comes in two READs, and behind the first one the kernel is made to forget what it was told. For pages of the second that
 * failed it asks one by one; what fails then ends the application's read there.
 */
describe.each(['observe', 'mirror', 'prefer-store'] as const)('P1: the last READ of a file, %s', (mode) => {
  let node: bigint

  const read = (offset: number, size: number): Promise<Buffer> =>
    rig.perform((overlay, request) => overlay.read(request, node, 0n, offset, size, 0))

  async function opened(): Promise<void> {
    const fill = (source: string): void => writeFileSync(join(source, 'f'), 'a'.repeat(SIZE))
    rig = await Rig.start({ mode, fill })
    node = await new Client(rig).node('f')
    // The kernel forgets when it is told to.
    const kernel = new PageCache(rig, node)
    await kernel.stat()
    await rig.perform((overlay, request) => overlay.open(request, node, constants.O_RDONLY))
  }

  test('a file that only got another ctime is read to its end', async () => {
    await opened()
    renameSync(join(rig.source, 'f'), join(rig.source, 'g'))
    renameSync(join(rig.source, 'g'), join(rig.source, 'f'))
    expect(await read(0, 2 * PAGE)).toHaveLength(2 * PAGE)
    expect(await read(2 * PAGE, 4 * PAGE)).toHaveLength(SIZE - 2 * PAGE)
  })

  test('of one that was cut short each page of the READ that fails is answered when the kernel asks again', async () => {
    await opened()
    truncateSync(join(rig.source, 'f'), 3 * PAGE + 50)
    expect(await read(0, 2 * PAGE)).toHaveLength(2 * PAGE)
    await expect(read(2 * PAGE, 4 * PAGE)).rejects.toMatchObject({ code: 'EIO' })
    expect(await read(2 * PAGE, PAGE)).toHaveLength(PAGE)
    expect(await read(3 * PAGE, PAGE)).toHaveLength(50)
    expect(await read(4 * PAGE, PAGE)).toHaveLength(0)
  })
})

test('P1: what the kernel has written itself counts for how long it takes the file for', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => writeFileSync(join(source, 'f'), 'a'.repeat(SIZE)),
  })
  const client = new Client(rig)
  const node = await client.node('f')
  await new PageCache(rig, node).stat()
  await rig.perform((overlay, request) => overlay.open(request, node, constants.O_RDWR))
  await client.write(node, SIZE, 'b'.repeat(PAGE))
  truncateSync(join(rig.source, 'f'), SIZE)
  const read = (offset: number, size: number): Promise<Buffer> =>
    rig.perform((overlay, request) => overlay.read(request, node, 0n, offset, size, 0))
  expect(await read(0, 2 * PAGE)).toHaveLength(2 * PAGE)
  await expect(read(2 * PAGE, 4 * PAGE)).rejects.toMatchObject({ code: 'EIO' })
})
