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
