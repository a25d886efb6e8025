import { onOneLine } from '../base/text.ts'

const COMMON_FIELDS = new Set(['level', 'time', 'name', 'pid', 'msg'])

/** One JSON log line as a person at a terminal reads it: `12:04:31 WARN worker: words key=value`. */
export function readableLine(line: string): string {
  let record: unknown
  try {
    record = JSON.parse(line)
  } catch {
    return line
  }
  if (typeof record !== 'object' || record === null) return line
  const { level, time, name, msg } = record as Record<string, unknown>
  const rest = Object.entries(record)
    .filter(([key]) => !COMMON_FIELDS.has(key))
    .map(([key, value]) => ` ${key}=${readableValue(value)}`)
  const clock = String(time).slice(11, 19)
  const words = `${clock} ${String(level).toUpperCase()} ${String(name)}: ${String(msg ?? '')}${rest.join('')}`
  return `${onOneLine(words)}\n`
}

function readableValue(value: unknown): string {
  // pino's serializer makes an error an object with its stack in it; a terminal line has room for the message.
  if (typeof value === 'object' && value !== null && 'message' in value && 'stack' in value) {
    return JSON.stringify(value.message)
  }
  return JSON.stringify(value)
}
