import { onOneLine, plainJson } from '../base/text.ts'
import type { RebuildState } from '../daemon/connection.ts'

/** What a command has of the outside; tests give their own. */
export interface Context {
  readonly environment: NodeJS.ProcessEnv
  /** One line of result. */
  readonly print: (line: string) => void
  /** Progress and remarks, which are no result. */
  readonly note: (line: string) => void
  /** The terminal for progress bars; undefined where there is none. */
  readonly terminal: NodeJS.WriteStream | undefined
  /** The program of a worker process. */
  readonly workerFile: string
  /** Loaded only by the command that needs it. */
  readonly loadRebuild: () => Promise<RebuildState>
}

/** What a command's action returns; see EXIT. */
export type ExitStatus = number

/** The same, with which no name that somebody chose can make a line of its own or speak to the terminal. */
export function onLines(context: Context): Context {
  return {
    ...context,
    print: (line) => context.print(onOneLine(line)),
    note: (line) => context.note(onOneLine(line)),
  }
}

/** Text of several lines, each by itself. */
export function printText({ print }: Context, text: string): void {
  for (const line of text.split('\n')) print(line)
}

/** For programs: all of it, or one line where many reports follow each other. */
export function printJson(context: Context, value: unknown, isOneLine = false): void {
  printText(context, plainJson(JSON.stringify(value, undefined, isOneLine ? undefined : 2)))
}
