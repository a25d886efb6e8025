import { type Logger, pino } from 'pino'
import { plainJson } from '../base/text.ts'
import { withoutPasswords } from './redact.ts'

/** What every layer needs of a logger: fields first, then words, as pino has it. An error goes under `err`. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  child(fields: Record<string, unknown>): Log
}

type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface LogOptions {
  readonly level: LogLevel
  /** Who writes: `supervisor`, `worker`. */
  readonly name: string
  /** Takes one line with its line feed; must not throw. */
  readonly write: (line: string) => void
}

const SECRETS = ['password', 'passphrase', 'secret', 'token', 'authorization', 'credentials']

/** A logger of JSON lines. Fields named like a secret, down to three levels, and passwords in URLs are masked. */
export function createLog({ level, name, write }: LogOptions): Logger {
  return pino(
    {
      level,
      base: { name, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRETS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '***',
      },
    },
    { write: (line: string) => write(plainJson(withoutPasswords(line))) },
  )
}
