import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { openStore } from '../../../src/store/index.ts'

const log = pino({ level: 'silent' })
let stateDir: string

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'ferryfs-open-'))
})

afterEach(async () => {
  await rm(stateDir, { recursive: true })
})

async function refusalOf(url: string, namespace = 'test'): Promise<string> {
  const failure = await openStore(url, { stateDir, namespace, log }).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(failure).toBeInstanceOf(UsageError)
  const message = failure instanceof UsageError ? failure.message : ''
  expect(message).not.toContain('\n')
  return message
}

describe('openStore', () => {
  test('a URL that names no store is refused in one line that names what is known', async () => {
    for (const url of ['', 'embedded', '/srv/store', 'redis://h', 'toString:', '__proto__:x', 'EMBEDDED:']) {
      expect(await refusalOf(url)).toContain('embedded:')
    }
    expect(await refusalOf('embedded:relative/path')).toContain('absolute')
    expect(await refusalOf('memory:x')).toContain('memory:')
  })

  test('what may be a password is not repeated', async () => {
    expect(await refusalOf('redis://user:hunter2@host/')).not.toContain('hunter2')
  })

  test('a namespace that is no plain name is refused', async () => {
    for (const namespace of ['', '.', '..', '.hidden', 'a/b', 'a b', 'ä', '_x', 'x'.repeat(64)]) {
      expect(await refusalOf('memory:', namespace)).toContain('namespace')
    }
  })

  test('namespaces in one place, and the path as it stands', async () => {
    const url = `embedded:${stateDir}/a b%41#c`
    const object = {
      value: Buffer.from('x'),
      version: { epoch: 0, version: 1 },
      contentType: 'text/plain',
      metadata: {},
    }
    const one = await openStore(url, { stateDir, namespace: 'one', log })
    const two = await openStore(url, { stateDir, namespace: 'two', log })
    await one.put('files', 'a', object)
    expect(await two.get('files', 'a')).toBeUndefined()
    expect(one.url).toBe(url)
    await one.close()
    await two.close()
    const again = await openStore(`embedded:///${stateDir}/a b%41#c`, { stateDir, namespace: 'one', log })
    expect(await again.get('files', 'a')).toEqual(object)
    await again.close()
  })
})
