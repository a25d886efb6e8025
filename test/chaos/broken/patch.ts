import type { DirectorySink, FileSystem } from '../../../src/fuse/operations.ts'
import { Overlay } from '../../../src/overlay/index.ts'

/** The overlay's class by its interface, whose methods may answer at once or later. */
const overlay: FileSystem = Overlay.prototype

/** Puts a method in the place of the overlay's own, which it is given. */
export function patch<K extends keyof FileSystem>(
  name: K,
  make: (original: FileSystem[K]) => FileSystem[K],
): void {
  overlay[name] = make(overlay[name])
}

/** A listing without the names that `drop` wants gone. */
export function without(sink: DirectorySink, drop: (name: Buffer) => boolean): DirectorySink {
  return {
    plus: sink.plus,
    hasRoom: (bytes) => sink.hasRoom(bytes),
    add: (item, entry) => {
      if (!drop(item.name)) sink.add(item, entry)
    },
    clear: () => sink.clear(),
  }
}
