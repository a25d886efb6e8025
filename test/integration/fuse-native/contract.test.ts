import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { mountsOf, NativeSession, unmountFuse } from '../../../src/fuse/index.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'
import { describeMounted, mounted } from '../../support/fuse/mounted.ts'
import {
  ABILITIES,
  type AbilityName,
  type Serve,
  transportContract,
} from '../../support/transport-contract.ts'
import { describeNative, NATIVE_LACKS } from './native.ts'

const serveKernel: Serve = async (fileSystem) => {
  const { target, session, log, close } = await mounted(fileSystem)
  return { target, lines: log.lines, ended: session.done.then(({ reason }) => reason), close }
}

const serveNative: Serve = async (fileSystem) => {
  const target = mkdtempSync(join(tmpdir(), 'ferryfs-native-'))
  const log = keepingLog()
  const session = new NativeSession({ target, source: 'a,b\\c', subtype: 'ferryfs-test', fileSystem, log })
  session.start()
  const failed = await Promise.race([session.ready.then(() => undefined), session.done])
  if (failed?.reason === 'failed') throw failed.error
  return {
    target,
    lines: log.lines,
    ended: session.done.then(({ reason }) => reason),
    close: async () => {
      await session.stop()
      if (mountsOf(target).length > 0) await unmountFuse(target, { lazy: true })
      rmdirSync(target)
    },
  }
}

describeMounted('the kernel transport', () => {
  transportContract({ name: 'kernel', serve: serveKernel, lacks: [] })
})

describeNative('the fuse-native transport', () => {
  transportContract({ name: 'fuse-native', serve: serveNative, lacks: NATIVE_LACKS })
})

describe('docs/transports.md', () => {
  it('names every limit of fuse-native that the contract knows, and no other', () => {
    const text = readFileSync(new URL('../../../docs/transports.md', import.meta.url), 'utf8')
    const named = [...text.matchAll(/^\| `([a-z0-9-]+)` \|/gm)].map(([, name]) => name)
    expect(named.sort()).toEqual([...NATIVE_LACKS].sort())
    const known: AbilityName[] = []
    for (const name of NATIVE_LACKS) if (name in ABILITIES) known.push(name)
    expect(known.length).toBe(NATIVE_LACKS.length)
  })
})
