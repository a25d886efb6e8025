import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { FLAG_APPEND, FLAG_IMMUTABLE, GUARDS } from '../../../src/base/inode-flags.ts'
import { closeDescriptor, flagsOf, openAt, setFlagsOf } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const AT_FDCWD = -100

function withFile<T>(path: string, body: (descriptor: number) => T): T {
  const descriptor = openAt(AT_FDCWD, Buffer.from(path), 0)
  try {
    return body(descriptor)
  } finally {
    closeDescriptor(descriptor)
  }
}

function whyNoFlags(): string | undefined {
  const path = `/dev/shm/ferryfs-directory-flags-${process.pid}`
  try {
    writeFileSync(path, '')
    withFile(path, (descriptor) => setFlagsOf(descriptor, FLAG_IMMUTABLE))
    withFile(path, (descriptor) => setFlagsOf(descriptor, 0))
    rmSync(path)
    return undefined
  } catch (error) {
    return `tmpfs here has no flags: ${String(error)}`
  }
}

const reason = whyNoFlags()
if (reason) console.log(reason)

let rig: Rig
let client: Client
let node: bigint

describe.skipIf(reason !== undefined)('P1: flags of a directory changed past the overlay, drain', () => {
  const past = (flags: number): void => withFile(join(rig.source, 'd'), (fd) => setFlagsOf(fd, flags))
  const onVolume = (): number => withFile(join(rig.source, 'd'), flagsOf) & GUARDS
  const shown = (): Promise<number> => rig.perform((overlay, request) => overlay.getFlags(request, node))
  const set = (flags: number): Promise<void> =>
    rig.perform((overlay, request) => overlay.setFlags(request, node, flags))

  /** The catalog has the authority on the directory, and the volume still has it. */
  async function start(): Promise<void> {
    rig = await Rig.start({
      mode: 'drain',
      fill(source) {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/x'), 'x')
      },
    })
    client = new Client(rig)
    node = await client.node('d')
    await client.create('d/new', 'new')
  }

  afterEach(async () => {
    past(0)
    await rig.stop()
  })

  test('are in force, and not any more once they are cleared', async () => {
    await start()
    past(FLAG_IMMUTABLE)
    await expect(client.create('d/other')).rejects.toMatchObject({ code: 'EPERM' })
    expect(await shown()).toBe(FLAG_IMMUTABLE)
    past(FLAG_APPEND)
    await client.create('d/other')
    await expect(client.unlink('d/other')).rejects.toMatchObject({ code: 'EPERM' })
    past(0)
    await client.unlink('d/other')
    expect(await shown()).toBe(0)
  })

  test('are seen by the next worker and the next mount', async () => {
    await start()
    past(FLAG_IMMUTABLE)
    await rig.restart('worker')
    expect(await shown()).toBe(FLAG_IMMUTABLE)
    past(0)
    await rig.restart('mount')
    node = await client.node('d')
    expect(await shown()).toBe(0)
  })

  test('what is set or cleared in the mount is not taken for a change on the volume', async () => {
    await start()
    await set(FLAG_IMMUTABLE)
    expect(onVolume()).toBe(0)
    await rig.restart('worker')
    expect(await shown()).toBe(FLAG_IMMUTABLE)
    past(FLAG_IMMUTABLE)
    await set(0)
    expect(onVolume()).toBe(0)
    expect(await shown()).toBe(0)
    await client.create('d/other')
  })
})
