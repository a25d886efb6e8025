/**
 * Writes the tree out of an embedded store without ferryfs: a second reader of docs/store-format.md that shares no code with
 * the first one. The store must not be in use. Run it with a Node that has node:sqlite:
 *
 *     node examples/read-store.ts STORE DEST        # STORE has index.sqlite in it, DEST is made
 *
 * It writes directories, files, symlinks, hard links and permissions; `ferryfs restore` does the rest: owners, times,
 * extended attributes, devices, and whatever is damaged.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { argv, stderr } from 'node:process'
import { DatabaseSync } from 'node:sqlite'

const MIB = 1024 * 1024
const BLOCK = 4096
const SLOTS = 1024
const SPACES = { files: 1, chunks: 2, dirs: 3, meta: 4 }
const NEWEST_FORMAT = 2

interface StoredObject {
  readonly value: Buffer
  readonly metadata: Readonly<Record<string, string>>
}

interface Entry {
  readonly name?: string
  readonly raw?: string
  readonly ino: string
  readonly generation: number
  readonly key?: string
}

interface Listed {
  readonly slot: number
  readonly hash: Buffer
  readonly zeros: Buffer | undefined
}

const [, , storeDirectory, destination] = argv
if (storeDirectory === undefined || destination === undefined)
  throw new Error('usage: read-store.ts STORE DEST')

const index = new DatabaseSync(join(storeDirectory, 'index.sqlite'), { readOnly: true })
const select = index.prepare('SELECT value, file, metadata FROM record WHERE space = ? AND key = ?')
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

function get(space: keyof typeof SPACES, key: string): StoredObject {
  const row = select.get(SPACES[space], key)
  if (row === undefined) throw new Error(`${space} ${key} is missing`)
  const metadata: Record<string, string> = JSON.parse(String(row.metadata))
  if (row.value instanceof Uint8Array) return { value: Buffer.from(row.value), metadata }
  const id = Number(row.file)
  const bucket = Math.floor(id / 1024)
  const [upper, lower, file] = [Math.floor(bucket / 1024), bucket, id].map((number) => number.toString(16))
  return { value: readFileSync(`${storeDirectory}/objects/${upper}/${lower}/${file}`), metadata }
}

/** The object, once its value is the one that was stored. */
function getChecked(space: 'files' | 'dirs', key: string): StoredObject {
  const object = get(space, key)
  if (sha256(object.value) !== object.metadata['ferry-sha256']) throw new Error(`${space} ${key} is damaged`)
  return object
}

function readList(bytes: Buffer): Listed[] {
  if (bytes[0] !== NEWEST_FORMAT) throw new Error(`a list of format ${bytes[0]}`)
  let at = 1
  const word = (): number => bytes.readUInt16LE((at += 2) - 2)
  const take = (length: number): Buffer => bytes.subarray(at, (at += length))
  const slots: number[] = []
  let end = 0
  for (let runs = word(); runs > 0; runs -= 1) {
    const start = end + word()
    end = start + word()
    for (let slot = start; slot < end; slot += 1) slots.push(slot)
  }
  const hashes = slots.map(() => take(32))
  const zeros = new Map<number, Buffer>()
  for (let left = word(); left > 0; left -= 1) zeros.set(word(), take(32))
  return slots.map((slot, nth) => ({ slot, hash: hashes[nth] ?? Buffer.alloc(0), zeros: zeros.get(slot) }))
}

/** The bytes of a chunk; blocks that are zeros come back as such. */
function unpack(value: Buffer, zeros: Buffer | undefined): Buffer {
  if (zeros === undefined) return value
  const chunk = Buffer.alloc(MIB)
  let at = zeros.length
  for (let block = 0; at < value.length; block += 1) {
    if (((zeros[block >> 3] ?? 0) >> (block & 7)) & 1) continue
    at += value.copy(chunk, block * BLOCK, at, at + BLOCK)
  }
  return chunk
}

/** Chunks of a file that are no holes, below a list whose slot 0 is object `first` of `level`. */
function* chunksOf(
  id: string,
  list: readonly Listed[],
  level: number,
  first: number,
): Generator<[number, Buffer]> {
  for (const { slot, hash, zeros } of list) {
    const number = first + slot
    const mark = level === 0 ? '' : level === 1 ? 'm' : `m${level}.`
    const key = `${id}/${mark}${number}-${hash.toString('hex')}`
    const { value } = get('chunks', key)
    if (sha256(value) !== hash.toString('hex')) throw new Error(`chunks ${key} is damaged`)
    if (level === 0) yield [number, unpack(value, zeros)]
    else yield* chunksOf(id, readList(value), level - 1, number * SLOTS)
  }
}

function writeFile(path: Buffer, id: string, { value, metadata }: StoredObject, size: number): void {
  const file = openSync(path, 'wx')
  ftruncateSync(file, size)
  const manifest = metadata['ferry-layout'] === 'chunked' ? JSON.parse(value.toString()) : undefined
  if (manifest === undefined || manifest.inline !== undefined) {
    writeSync(file, manifest === undefined ? value : Buffer.from(manifest.inline, 'base64'))
  } else {
    if (manifest.format !== NEWEST_FORMAT) throw new Error(`${path}: a manifest of format ${manifest.format}`)
    let level = 0
    for (let places = SLOTS * MIB; places < size; places *= SLOTS) level += 1
    const list = readList(Buffer.from(manifest.list, 'base64'))
    for (const [number, chunk] of chunksOf(id, list, level, 0))
      writeSync(file, chunk, 0, Math.min(chunk.length, size - number * MIB), number * MIB)
  }
  closeSync(file)
}

const idOf = ({ ino, generation }: Entry): string => `${BigInt(ino).toString(16)}-${generation.toString(16)}`
/** File id → the first path that it was written to. */
const written = new Map<string, Buffer>()

function restoreEntry(path: Buffer, entry: Entry): void {
  const id = idOf(entry)
  const first = written.get(id)
  if (entry.key === undefined) {
    restoreDirectory(path, id)
  } else if (first !== undefined) {
    linkSync(first, path)
  } else {
    written.set(id, path)
    restoreFile(path, id, getChecked('files', entry.key))
  }
}

function restoreFile(path: Buffer, id: string, object: StoredObject): void {
  const mode = Number.parseInt(object.metadata['ferry-mode'] ?? '', 8)
  const type = mode & 0o170000
  if (type === 0o120000) {
    symlinkSync(object.value, path)
  } else if (type === 0o100000) {
    writeFile(path, id, object, Number(object.metadata['ferry-size']))
    chmodSync(path, mode & 0o7777)
  } else {
    stderr.write(`${path} is a device, a FIFO or a socket and was left out\n`)
  }
}

function restoreDirectory(path: Buffer, id: string): void {
  const header = JSON.parse(getChecked('dirs', id).value.toString())
  mkdirSync(path)
  for (let shard = 0; shard < header.shards; shard += 1) {
    const { value } = getChecked('dirs', `${id}/${header.recordGeneration}.${shard}`)
    const entries: readonly Entry[] = JSON.parse(value.toString()).entries
    for (const entry of entries) {
      const name = entry.name === undefined ? Buffer.from(entry.raw ?? '', 'base64') : Buffer.from(entry.name)
      if (/^\.{0,2}$|[/\0]/.test(name.toString('latin1'))) throw new Error(`${path} has a wrong name in it`)
      restoreEntry(Buffer.concat([path, Buffer.from('/'), name]), entry)
    }
  }
  chmodSync(path, header.mode & 0o7777)
}

const lease = JSON.parse(get('meta', 'namespace').value.toString())
if (lease.format > NEWEST_FORMAT) throw new Error(`the namespace has format ${lease.format}`)
restoreDirectory(Buffer.from(destination), '1-0')
