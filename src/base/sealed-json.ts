import { crc32 } from 'node:zlib'

// The last member, on a line of its own: a person can take it out with an editor.
const SEAL = /^\n {2}"crc32": "([0-9a-f]{8})"\n\}\n$/
const SEAL_BYTES = 25
const MEMBER = '"crc32"'
// What is longer is no text of this program, and would take long to try.
const MOST_MENDED = 32 * 1024

/** A JSON object as a file has it, with a CRC-32 of all before that as its last member. */
export function sealJson(value: Readonly<Record<string, unknown>>): string {
  const head = `${JSON.stringify(value, undefined, 2).slice(0, -2)},`
  return `${head}\n  "crc32": "${crc32(head).toString(16).padStart(8, '0')}"\n}\n`
}

/**
 * What `sealJson` made a text of. One flipped bit is put right in what is returned: no two bits make the same difference to a CRC.
 * A text without a CRC, of an earlier ferryfs or a person, is taken as it is.
 * @throws SyntaxError with what to do
 */
export function unsealJson(bytes: Buffer): Readonly<Record<string, unknown>> {
  const text = isWhole(bytes) ? bytes : (mended(bytes) ?? bytes)
  if (text === bytes && !isWhole(bytes) && bytes.includes(MEMBER))
    throw new SyntaxError(
      'it is not what was written: damaged, or changed by hand (then take its last member, "crc32", out)',
    )
  const value: unknown = JSON.parse(text.toString('utf8'))
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new SyntaxError('it is no JSON object')
  const { crc32: _, ...rest } = { ...value } as Record<string, unknown>
  return rest
}

function isWhole(bytes: Buffer): boolean {
  const end = bytes.length - SEAL_BYTES
  if (end < 0) return false
  const seal = SEAL.exec(bytes.toString('latin1', end))?.[1]
  return seal !== undefined && Number.parseInt(seal, 16) === crc32(bytes.subarray(0, end))
}

function mended(bytes: Buffer): Buffer | undefined {
  if (bytes.length < SEAL_BYTES || bytes.length > MOST_MENDED) return undefined
  const copy = Buffer.from(bytes)
  for (let at = copy.length - 1; at >= 0; at -= 1) {
    const was = copy[at] ?? 0
    for (let bit = 0; bit < 8; bit += 1) {
      copy[at] = was ^ (1 << bit)
      if (isWhole(copy)) return copy
    }
    copy[at] = was
    // Without a seal that can be read no other bit makes the text whole.
    if (at === copy.length - SEAL_BYTES && !SEAL.test(copy.toString('latin1', at))) return undefined
  }
  return undefined
}
