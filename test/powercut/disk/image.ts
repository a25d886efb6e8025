import type { InodeState } from '../recording/events.ts'

/** What is torn, and what is written back, is a page. */
export const PAGE = 4096

/** One file of a volume: as it is on the disk, or as the running machine has it. */
export interface FileImage {
  readonly ino: number
  state: InodeState
  /** Pages that are allocated; the others are zeros. */
  readonly pages: Map<number, Buffer>
  size: number
  readonly children: Map<string, number>
  readonly xattrs: Map<string, Buffer>
  target: string | undefined
  /** Pages whose blocks were freed by a change that has not reached the disk: what was written there later has not either. */
  frozen: ((page: number) => boolean) | undefined
}

export interface VolumeImage {
  readonly root: number
  readonly files: Map<number, FileImage>
}

export function newFile(ino: number, state: InodeState, target?: string): FileImage {
  return {
    ino,
    state,
    pages: new Map(),
    size: 0,
    children: new Map(),
    xattrs: new Map(),
    target,
    frozen: undefined,
  }
}

/** A copy to be changed; pages are shared and never changed in place. */
export function copyOf(volume: VolumeImage): VolumeImage {
  const files = new Map<number, FileImage>()
  for (const [ino, file] of volume.files) {
    files.set(ino, {
      ...file,
      pages: new Map(file.pages),
      children: new Map(file.children),
      xattrs: new Map(file.xattrs),
    })
  }
  return { root: volume.root, files }
}

/** Puts bytes into one page; they do not pass its end, and nobody changes them later: a whole page is shared. */
export function writePage(file: FileImage, page: number, within: number, bytes: Buffer): void {
  if (bytes.length === PAGE) {
    file.pages.set(page, bytes)
    return
  }
  const before = file.pages.get(page)
  const now = before ? Buffer.from(before) : Buffer.alloc(PAGE)
  bytes.copy(now, within)
  file.pages.set(page, now)
}

/** Cuts or grows; what is beyond the end is gone, and zeros if the file grows again. */
export function resize(file: FileImage, size: number): void {
  if (size < file.size) {
    const last = Math.floor(size / PAGE)
    const within = size % PAGE
    for (const page of file.pages.keys()) {
      if (page > last || (page === last && within === 0)) file.pages.delete(page)
    }
    const boundary = file.pages.get(last)
    if (boundary && within > 0) {
      const cut = Buffer.from(boundary)
      cut.fill(0, within)
      file.pages.set(last, cut)
    }
  }
  file.size = size
}

/** Makes a range zeros. */
export function zero(file: FileImage, from: number, to: number): void {
  for (let page = Math.floor(from / PAGE); page * PAGE < to; page += 1) {
    const start = Math.max(0, from - page * PAGE)
    const end = Math.min(PAGE, to - page * PAGE)
    const before = file.pages.get(page)
    if (!before) continue
    if (start === 0 && end === PAGE) file.pages.delete(page)
    else {
      const now = Buffer.from(before)
      now.fill(0, start, end)
      file.pages.set(page, now)
    }
  }
}

/** The whole content. */
export function contentOf(file: FileImage): Buffer {
  const content = Buffer.alloc(file.size)
  for (const [page, bytes] of file.pages) {
    if (page * PAGE < file.size) bytes.copy(content, page * PAGE, 0, Math.min(PAGE, file.size - page * PAGE))
  }
  return content
}
