import type { Log } from '../../observe/log.ts'
import type { FileSystem } from '../operations.ts'
import type { FuseDevice } from './device.ts'
import type { SessionState } from './init.ts'

/** How a session ended. */
export type SessionEnd =
  /** The file system is unmounted, for the last process that used it too. */
  | { readonly reason: 'unmounted' }
  /** Somebody cut the connection (umount --force, /sys/fs/fuse/connections/N/abort). */
  | { readonly reason: 'aborted' }
  /** `stop` was called; the connection lives on. */
  | { readonly reason: 'stopped' }
  /** The device cannot be read, or the kernel is too old: nothing is served. */
  | { readonly reason: 'failed'; readonly error: Error }

export interface SessionOptions {
  /** Of /dev/fuse, mounted. Stays open when the session ends. */
  readonly fd: number
  readonly fileSystem: FileSystem
  readonly log: Log
  /** What a predecessor's `onInit` got; `undefined` where the kernel's INIT is still to come. */
  readonly state?: unknown
  /** Called before INIT is answered: whoever keeps the state for a successor has it before any other request comes. */
  readonly onInit?: (state: SessionState) => void
  /** Told of every request for which the file system had to wait, when it is answered: how long its caller waited. */
  readonly onWaited?: (operation: string, seconds: number) => void
  /**
   * Resolves once it can be noted what a request changes (or, not `changes`, looks at) without that the event loop waits for a disk;
   * undefined if it can.
   */
  readonly ready?: (changes: boolean) => Promise<void> | undefined
  /** Largest WRITE in bytes, 1 MiB unless given; a session that takes over keeps what was agreed on. */
  readonly maxWrite?: number
  /** Large WRITEs that wait for the file system at the same time, at most. With more, reading pauses. */
  readonly writeBuffers?: number
  /** For tests. */
  readonly device?: FuseDevice
  readonly isDying?: (pid: number) => boolean
}
