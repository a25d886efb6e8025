/**
 * The part of the protocol buffers wire format that Riak's messages use: varints and length-delimited fields, driven by
 * a table. Unknown fields are skipped, a missing required field is an error, as in the Erlang decoder of riak_pb.
 */
export type PbValue = Buffer | number | boolean | PbMessage | readonly PbValue[]
export interface PbMessage {
  readonly [field: string]: PbValue | undefined
}

type FieldKind = 'bytes' | 'uint32' | 'bool' | { readonly message: Schema }

interface Field {
  readonly name: string
  readonly kind: FieldKind
  readonly rule: 'required' | 'optional' | 'repeated'
}

/** Field number → field. */
export type Schema = ReadonlyMap<number, Field>

/** Reads `'bucket:bytes!'` (required), `'r:uint32'` or `'keys:bytes*'` (repeated) at the field number given. */
export function schema(fields: Readonly<Record<number, string | readonly [string, Schema]>>): Schema {
  const result = new Map<number, Field>()
  for (const [number, spec] of Object.entries(fields)) {
    const text = typeof spec === 'string' ? spec : spec[0]
    const match = /^(\w+)(?::(bytes|uint32|bool))?([!*]?)$/.exec(text)
    if (match === null) throw new Error(`bad field specification ${text}`)
    const [, name = '', scalar, mark] = match
    const kind: FieldKind =
      typeof spec !== 'string'
        ? { message: spec[1] }
        : scalar === 'uint32' || scalar === 'bool'
          ? scalar
          : 'bytes'
    const rule = mark === '!' ? 'required' : mark === '*' ? 'repeated' : 'optional'
    result.set(Number(number), { name, kind, rule })
  }
  return result
}

const VARINT = 0
const FIXED64 = 1
const DELIMITED = 2
const FIXED32 = 5

class Reader {
  readonly #data: Buffer
  #offset = 0

  constructor(data: Buffer) {
    this.#data = data
  }

  get done(): boolean {
    return this.#offset >= this.#data.length
  }

  varint(): number {
    let result = 0
    let scale = 1
    for (let count = 0; count < 10; count++) {
      const byte = this.#data[this.#offset++]
      if (byte === undefined) throw new Error('truncated varint')
      result += (byte & 0x7f) * scale
      if (byte < 0x80) return result
      scale *= 128
    }
    throw new Error('varint longer than 10 bytes')
  }

  take(length: number): Buffer {
    const end = this.#offset + length
    if (end > this.#data.length) throw new Error('truncated field')
    const part = this.#data.subarray(this.#offset, end)
    this.#offset = end
    return part
  }

  skip(wireType: number): void {
    if (wireType === VARINT) this.varint()
    else if (wireType === FIXED64) this.take(8)
    else if (wireType === DELIMITED) this.take(this.varint())
    else if (wireType === FIXED32) this.take(4)
    else throw new Error(`wire type ${wireType}`)
  }
}

function readValue(reader: Reader, kind: FieldKind, wireType: number): PbValue {
  const scalar = kind === 'uint32' || kind === 'bool'
  if (wireType !== (scalar ? VARINT : DELIMITED)) throw new Error(`wire type ${wireType} for ${String(kind)}`)
  if (kind === 'uint32') return reader.varint() >>> 0
  if (kind === 'bool') return reader.varint() !== 0
  const bytes = reader.take(reader.varint())
  return kind === 'bytes' ? bytes : decode(kind.message, bytes)
}

/** @throws Error for bytes that are no message of this schema. */
export function decode(message: Schema, data: Buffer): PbMessage {
  const reader = new Reader(data)
  const result: Record<string, PbValue> = {}
  const lists = new Map<string, PbValue[]>()
  while (!reader.done) {
    const tag = reader.varint()
    const field = message.get(Math.floor(tag / 8))
    if (field === undefined) {
      reader.skip(tag % 8)
      continue
    }
    const value = readValue(reader, field.kind, tag % 8)
    if (field.rule !== 'repeated') {
      result[field.name] = value
      continue
    }
    const list = lists.get(field.name)
    if (list === undefined) lists.set(field.name, [value])
    else list.push(value)
  }
  for (const [name, list] of lists) result[name] = list
  for (const field of message.values()) {
    if (field.rule === 'required' && result[field.name] === undefined)
      throw new Error(`${field.name} is missing`)
  }
  return result
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest >= 128) {
    bytes.push((rest % 128) | 0x80)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

function writeValue(parts: Buffer[], number: number, kind: FieldKind, value: PbValue): void {
  if (kind === 'uint32' || kind === 'bool') {
    parts.push(varint(number * 8 + VARINT), varint(Number(value)))
    return
  }
  const bytes = Buffer.isBuffer(value)
    ? value
    : typeof kind === 'object'
      ? encode(kind.message, asMessage(value))
      : undefined
  if (bytes === undefined) throw new Error(`no bytes for field ${number}`)
  parts.push(varint(number * 8 + DELIMITED), varint(bytes.length), bytes)
}

export function encode(message: Schema, fields: PbMessage): Buffer {
  const parts: Buffer[] = []
  for (const [number, field] of message) {
    const value = fields[field.name]
    if (value === undefined) continue
    for (const one of field.rule === 'repeated' ? asList(value) : [value])
      writeValue(parts, number, field.kind, one)
  }
  return Buffer.concat(parts)
}

function isList(value: PbValue): value is readonly PbValue[] {
  return Array.isArray(value)
}

function asList(value: PbValue | undefined): readonly PbValue[] {
  return value === undefined ? [] : isList(value) ? value : [value]
}

function asMessage(value: PbValue): PbMessage {
  if (typeof value !== 'object' || Buffer.isBuffer(value) || isList(value)) throw new Error('not a message')
  return value
}

/** Typed access to a decoded message. */
export const field = {
  bytes(message: PbMessage, name: string): Buffer | undefined {
    const value = message[name]
    return Buffer.isBuffer(value) ? value : undefined
  },
  uint(message: PbMessage, name: string): number | undefined {
    const value = message[name]
    return typeof value === 'number' ? value : undefined
  },
  flag(message: PbMessage, name: string): boolean | undefined {
    const value = message[name]
    return typeof value === 'boolean' ? value : undefined
  },
  message(message: PbMessage, name: string): PbMessage | undefined {
    const value = message[name]
    return value === undefined ? undefined : asMessage(value)
  },
  messages(message: PbMessage, name: string): PbMessage[] {
    return asList(message[name]).map(asMessage)
  },
  list(message: PbMessage, name: string): Buffer[] {
    return asList(message[name]).filter((value) => Buffer.isBuffer(value))
  },
}
