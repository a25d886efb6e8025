import { connect } from 'node:net'
import { join } from 'node:path'
import type { z } from 'zod'
import { mountCommand, type SettingTexts, shellWord } from '../config/mount-command.ts'
import {
  type Command,
  type ControlRequest,
  type Frame,
  frameSchema,
  type Results,
  resultSchemas,
  SILENCE_MS,
} from './control-protocol.ts'
import type { Progress } from './engine.ts'
import { EXIT } from './exit-status.ts'
import { onLines } from './lines.ts'
import { type Registration, supervisorAlive } from './registry.ts'
import { LOG_FILE, readIdentity } from './state-dir.ts'

/** What a daemon answered instead of a result. */
export class DaemonError extends Error {
  readonly exitStatus: number
  readonly code: string | undefined

  constructor(message: string, exitStatus: number, code?: string) {
    super(message)
    this.name = 'DaemonError'
    this.exitStatus = exitStatus
    this.code = code
  }
}

/** The mount is recorded, but its daemon is dead. */
export class DaemonGone extends DaemonError {
  constructor(registration: Registration) {
    const { target, supervisorPid } = registration
    super(
      `the ferryfs daemon of ${target} is gone (it was process ${supervisorPid}); ` +
        `"${commandOf(registration)}" takes up where it ended, and so does "ferryfs mount ${shellWord(target)}"; ` +
        `"ferryfs unmount ${shellWord(target)}" clears up`,
      EXIT.failed,
    )
    this.name = 'DaemonGone'
  }
}

/** The whole command by which a mount is made anew, with all that it was told. */
function commandOf({ source, target, stateDir }: Registration): string {
  let settings: SettingTexts = {}
  try {
    settings = readIdentity(stateDir)?.settings ?? {}
  } catch {
    // Of another version: its mount will say so.
  }
  return mountCommand({ source, target, stateDir, settings })
}

/** The conversation broke off: the worker died, is just starting, or hangs. The next one may answer. */
class ConversationLost extends Error {
  /** The request was sent, so it may have been begun. */
  readonly sent: boolean

  constructor(message: string, sent: boolean, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ConversationLost'
    this.sent = sent
  }
}

export interface CallOptions {
  readonly onProgress?: (progress: Progress) => void
  /** Ask again when the worker dies over it. Not for what must not be begun twice. */
  readonly again?: boolean
  /** How long nothing may be heard before the call fails. */
  readonly silenceMs?: number
  readonly signal?: AbortSignal
}

// Between two tries to reach a worker that is being replaced.
const RETRY_MS = 100

/**
 * Asks the daemon of a mount and waits for the result, across restarts of its worker.
 * @throws DaemonError, DaemonGone
 */
export async function callDaemon<C extends Command>(
  registration: Registration,
  request: ControlRequest & { readonly command: C },
  options: CallOptions = {},
): Promise<Results[C]> {
  const { again = true, silenceMs = SILENCE_MS, onProgress, signal } = options
  let heardAt = performance.now()
  for (;;) {
    try {
      const result = await converse(registration.socket, request, {
        silenceMs,
        signal,
        onHeard: (progress) => {
          heardAt = performance.now()
          if (progress) onProgress?.(progress)
        },
      })
      const schema: z.ZodType<Results[C]> = resultSchemas[request.command]
      const parsed = schema.safeParse(result)
      if (parsed.success) return parsed.data
      throw new DaemonError(
        `the daemon of ${registration.target} answers in another format; use the ferryfs that runs there`,
        EXIT.failed,
      )
    } catch (error) {
      if (!(error instanceof ConversationLost)) throw error
      if (!supervisorAlive(registration)) throw new DaemonGone(registration)
      const silentMs = performance.now() - heardAt
      if (silentMs >= silenceMs || (error.sent && !again)) {
        throw new DaemonError(
          `the ferryfs daemon of ${registration.target} (process ${registration.supervisorPid}) did not answer: ` +
            `${error.message}; see ${join(registration.stateDir, LOG_FILE)}`,
          EXIT.failed,
        )
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

interface Conversation {
  readonly silenceMs: number
  readonly signal: AbortSignal | undefined
  readonly onHeard: (progress?: Progress) => void
}

/** One request and its answer over one connection. @throws ConversationLost, DaemonError */
function converse(path: string, request: ControlRequest, conversation: Conversation): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    let sent = false
    const lost = (message: string, cause?: unknown): void => {
      reject(new ConversationLost(message, sent, { cause }))
      socket.destroy()
    }
    const stop = (): void => {
      reject(conversation.signal?.reason)
      socket.destroy()
    }
    if (conversation.signal?.aborted) return stop()
    conversation.signal?.addEventListener('abort', stop, { once: true })
    socket.setTimeout(conversation.silenceMs, () => lost(`nothing heard for ${conversation.silenceMs} ms`))
    socket.once('connect', () => {
      sent = true
      socket.write(`${JSON.stringify(request)}\n`)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES' || error.code === 'EPERM') {
        reject(new DaemonError(`${path}: not permitted; be the user who mounted it`, EXIT.failed))
      } else {
        lost(error.message, error)
      }
    })
    socket.once('close', () => {
      conversation.signal?.removeEventListener('abort', stop)
      lost('the connection was closed')
    })
    onLines(socket, Number.POSITIVE_INFINITY, (line) => {
      const frame = parseFrame(line)
      conversation.onHeard(frame && 'progress' in frame ? frame.progress : undefined)
      if (!frame) lost('a line that is no answer')
      else if ('error' in frame) {
        reject(new DaemonError(frame.error.message, frame.error.exitStatus, frame.error.code))
      } else if ('result' in frame) resolve(frame.result)
    })
  })
}

function parseFrame(line: string): Frame | undefined {
  try {
    return frameSchema.safeParse(JSON.parse(line)).data
  } catch {
    // Half a line of a worker that was killed while it wrote.
    return undefined
  }
}
