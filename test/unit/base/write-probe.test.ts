import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, open, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { Unanswered } from '../../../src/base/errors.ts'
import { asRequest, WriteProbe } from '../../../src/base/write-probe.ts'

/** Nobody has asked the disk in this tick, so that a commit may hang as far as anybody knows. */
describe('P6: a request commits to a disk only once that has answered', () => {
  let directory: string
  let database: Database

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-probe-'))
    database = Database.open(join(directory, 'a.db'), {
      applicationId: 7,
      format: 1,
      schema: 'CREATE TABLE rows (id INTEGER PRIMARY KEY)',
      probe: new WriteProbe(directory, 'the disk'),
    })
    database.exec('CREATE TEMP TABLE met (id INTEGER PRIMARY KEY)')
  })

  afterEach(async () => {
    await database.close()
    rmSync(directory, { recursive: true })
  })

  const add = (): void => database.transaction(() => database.exec('INSERT INTO rows DEFAULT VALUES'))
  const count = (): unknown => database.prepare('SELECT count(*) AS n FROM rows').get()?.n

  /** What it waits for. */
  function refused(body: () => unknown): Promise<void> {
    try {
      body()
    } catch (error) {
      // P1: what has not begun is no request that comes a second time, of which something may be there.
      if (error instanceof Unanswered && error.untouched) return error.back
      throw error
    }
    throw new Error('it was not refused')
  }

  test('one that changes something before it begins, and it takes place when it is done again', async () => {
    let begun = false
    const back = refused(() =>
      asRequest('changes', () =>
        database.transaction(() => {
          begun = true
        }),
      ),
    )
    expect(begun).toBe(false)
    await back
    asRequest('again', () => {
      add()
      // Whatever became of the disk: half of a request is not left.
      add()
    })
    expect(count()).toBe(2)
  })

  test('one that looks only where it has found something to note, and nothing of that is left', async () => {
    asRequest('looks', () => database.transaction(count))
    asRequest('looks', () =>
      database.transaction(() => database.inMemory(() => database.exec('INSERT INTO met DEFAULT VALUES'))),
    )
    const back = refused(() => asRequest('looks', add))
    expect(count()).toBe(0)
    await back
    asRequest('again', add)
    expect(count()).toBe(1)
  })

  test('those who ask at once share an answer, and nothing is left of the question', async () => {
    expect(database.ready()).toBe(database.ready())
    await database.ready()
    expect(database.isAway).toBe(false)
    expect(readdirSync(directory).filter((name) => !name.startsWith('a.db'))).toEqual([])
  })
})

describe('a disk that is well, and a thread pool that is full of other work', () => {
  let directory: string
  let probe: WriteProbe
  let release: () => Promise<void>

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-probe-'))
    probe = new WriteProbe(directory, 'the disk')
    release = fillPool(join(directory, 'pipe'))
  })

  afterEach(async () => {
    await release()
    probe.close()
    rmSync(directory, { recursive: true })
  })

  /** Waits until the disk has to be asked anew, and asks. */
  async function ask(): Promise<Promise<void>> {
    for (;;) {
      const answer = probe.ready()
      if (answer) return answer
      await nextTurn()
    }
  }

  test('P4: is no disk that does not answer: no work fails, and none waits for the pool', async () => {
    for (let times = 0; times < 3; times += 1) {
      await await ask()
      expect(probe.isLate).toBe(false)
    }
  })

  test('P1: what waits in the pool goes to no other file once nobody asks any more', async () => {
    await await ask()
    const held = descriptorsIn(directory)
    probe.close()
    await nextTurn()
    expect(descriptorsIn(directory)).toEqual(held)
    await release()
    await expect.poll(() => descriptorsIn(directory)).toEqual([])
  })
})

/** Files of the directory that this process has open, and that have no name any more. */
const descriptorsIn = (directory: string): string[] =>
  readdirSync('/proc/self/fd').filter((descriptor) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${descriptor}`)
      return path.startsWith(`${directory}/`) && path.endsWith(' (deleted)')
    } catch {
      // The one by which they were listed.
      return false
    }
  })

/** Keeps every thread of the pool until the function that it returns is called. */
function fillPool(pipe: string): () => Promise<void> {
  execFileSync('mkfifo', [pipe])
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4)
  const opened = Array.from(
    { length: threads },
    () =>
      new Promise<number>((resolve, reject) =>
        open(pipe, 'r', (error, fd) => (error ? reject(error) : resolve(fd))),
      ),
  )
  let released: Promise<void> | undefined
  return () => {
    released ??= (async () => {
      const writer = openSync(pipe, 'r+')
      for (const descriptor of await Promise.all(opened)) closeSync(descriptor)
      closeSync(writer)
    })()
    return released
  }
}
