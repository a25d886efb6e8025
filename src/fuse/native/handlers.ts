import type { Bridge } from './bridge.ts'
import { nativeStatFs } from './convert.ts'
import type { NativeHandlers } from './library.ts'

/** Runs one request and gives its result to `done`, or the negated errno to `failed`; neither may throw. */
export type Serve = <T>(
  operation: string,
  body: () => Promise<T>,
  done: (value: T) => void,
  failed: (result: number) => void,
) => void

const NS_PER_MS = 1_000_000n

/**
 * The handlers of fuse-native on a bridge.
 * @param times what the request under way asks for, in milliseconds; the parameters of `utimens` name the first one twice
 */
export function handlersOf(
  bridge: Bridge,
  serve: Serve,
  times: (atimeMs: number) => { readonly atime: bigint; readonly mtime: bigint },
): NativeHandlers {
  const plain = (operation: string, body: () => Promise<unknown>, callback: (result: number) => void): void =>
    serve(operation, body, () => callback(0), callback)
  return {
    fgetattr: (_path, _handle, callback) => callback(0),
    statfs: (_path, callback) =>
      serve(
        'statfs',
        async () => nativeStatFs(await bridge.statfs()),
        (space) => callback(0, space),
        callback,
      ),
    readdir: (path, callback) =>
      serve(
        'readdir',
        () => bridge.readdir(path),
        ({ names, stats }) => callback(0, names, stats),
        callback,
      ),
    readlink: (path, callback) =>
      serve(
        'readlink',
        () => bridge.readlink(path),
        (target) => callback(0, target),
        callback,
      ),
    mknod: (path, mode, device, callback) => plain('mknod', () => bridge.mknod(path, mode, device), callback),
    mkdir: (path, mode, callback) => plain('mkdir', () => bridge.mkdir(path, mode), callback),
    unlink: (path, callback) => plain('unlink', () => bridge.unlink(path), callback),
    rmdir: (path, callback) => plain('rmdir', () => bridge.rmdir(path), callback),
    symlink: (target, path, callback) => plain('symlink', () => bridge.symlink(target, path), callback),
    rename: (from, to, callback) => plain('rename', () => bridge.rename(from, to), callback),
    link: (from, to, callback) => plain('link', () => bridge.link(from, to), callback),
    chmod: (path, mode, callback) => plain('chmod', () => bridge.chmod(path, mode), callback),
    chown: (path, uid, gid, callback) => plain('chown', () => bridge.chown(path, uid, gid), callback),
    truncate: (path, size, callback) => plain('truncate', () => bridge.truncate(path, size), callback),
    ftruncate: (_path, handle, size, callback) =>
      plain('ftruncate', () => bridge.ftruncate(handle, size), callback),
    utimens: (path, atimeMs, _again, callback) =>
      plain(
        'utimens',
        async () => {
          const { atime, mtime } = times(atimeMs)
          await bridge.utimens(path, atime * NS_PER_MS, mtime * NS_PER_MS)
        },
        callback,
      ),
    open: (path, flags, callback) =>
      serve(
        'open',
        () => bridge.open(path, flags),
        (handle) => callback(0, handle),
        callback,
      ),
    read: (_path, handle, buffer, length, offset, callback) =>
      serve(
        'read',
        async () => (await bridge.read(handle, offset, length)).copy(buffer, 0, 0, length),
        callback,
        callback,
      ),
    write: (_path, handle, buffer, length, offset, callback) =>
      serve('write', () => bridge.write(handle, offset, buffer.subarray(0, length)), callback, callback),
    flush: (_path, handle, callback) => plain('flush', () => bridge.flush(handle), callback),
    release: (_path, handle, callback) => plain('release', () => bridge.release(handle), callback),
    fsync: (_path, dataOnly, handle, callback) =>
      plain('fsync', () => bridge.fsync(handle, dataOnly !== 0), callback),
    fsyncdir: (path, dataOnly, _handle, callback) =>
      plain('fsyncdir', () => bridge.fsyncdir(path, dataOnly !== 0), callback),
    setxattr: (path, name, value, _position, flags, callback) =>
      plain('setxattr', () => bridge.setxattr(path, name, value, flags), callback),
    // Only say that there is one: `_op_getxattr` and `_op_listxattr` are replaced.
    getxattr: (_path, _name, _position, callback) => callback(0),
    listxattr: (_path, callback) => callback(0),
    removexattr: (path, name, callback) =>
      plain('removexattr', () => bridge.removexattr(path, name), callback),
  }
}
