import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pino } from 'pino'
import { SPACE_NUMBERS } from '../../../src/store/embedded/schema.ts'
import { ValueFiles } from '../../../src/store/embedded/value-files.ts'
import { openStore } from '../../../src/store/index.ts'
import { type StoreUnderTest, storeContract } from '../../support/store-contract.ts'

const log = pino({ level: 'silent' })

async function open(): Promise<StoreUnderTest> {
  const stateDir = await mkdtemp(join(tmpdir(), 'ferryfs-store-'))
  const options = { stateDir, namespace: 'test', log }
  let store = await openStore('embedded:', options)
  const directory = join(stateDir, 'store', 'test')
  return {
    store,
    async reopen() {
      await store.close()
      store = await openStore('embedded:', options)
      return store
    },
    async corrupt(space, key) {
      const index = new DatabaseSync(join(directory, 'index.sqlite'))
      const where = 'WHERE space = ? AND key = ?'
      const row = index.prepare(`SELECT file, value FROM record ${where}`).get(SPACE_NUMBERS[space], key)
      if (typeof row?.file === 'number') {
        const path = new ValueFiles(join(directory, 'objects')).pathOf(row.file)
        await writeFile(path, flipped(await readFile(path)))
      } else if (row?.value instanceof Uint8Array) {
        index
          .prepare(`UPDATE record SET value = ? ${where}`)
          .run(flipped(Buffer.from(row.value)), SPACE_NUMBERS[space], key)
      }
      index.close()
    },
    elsewhere: {
      url: 'embedded:',
      stateDir,
      namespace: 'test',
      release: () => store.close(),
    },
    async dispose() {
      await store.close()
      await rm(stateDir, { recursive: true })
    },
  }
}

function flipped(value: Buffer): Buffer {
  const middle = value.length >> 1
  value[middle] = (value[middle] ?? 0) ^ 0x10
  return value
}

storeContract('embedded', open, { reopen: true, corrupt: true, elsewhere: true })
