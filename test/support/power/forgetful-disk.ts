import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SHIM = new URL('forgetful.c', import.meta.url).pathname

/** Why no process can be given such a disk here; undefined where it can. */
export function whyNoForgetfulDisk(): string | undefined {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'needs gcc'
  }
}

/**
 * What a disk has of the files whose paths end in one of `tracked`, for processes that are started with `environment`: a sync
 * that fails leaves clean pages that are not on the disk (forgetful.c).
 */
export class ForgetfulDisk {
  readonly path: string
  readonly environment: Readonly<Record<string, string>>

  /** `path`: a directory for its own use, made here. */
  constructor(path: string, tracked: readonly string[]) {
    this.path = path
    mkdirSync(path)
    writeFileSync(join(path, 'track'), tracked.map((line) => `${line}\n`).join(''))
    const shim = join(path, 'shim.so')
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', shim, SHIM, '-ldl', '-lpthread'])
    this.environment = { LD_PRELOAD: shim, FORGETFUL_DIR: path }
  }

  /** The next sync of a file whose path ends so fails. */
  failNextSync(suffix: string): void {
    writeFileSync(join(this.path, 'fail'), suffix)
  }

  /** The sync that was to fail has. */
  get hasFailed(): boolean {
    return !existsSync(join(this.path, 'fail'))
  }

  /** The files hold what the disk has of them. Nobody has them open. */
  cut(): void {
    const names = readdirSync(this.path).filter((name) => name.endsWith('.map'))
    for (const name of names.map((map) => map.slice(0, -'.map'.length))) {
      const path = name.replaceAll('%', '/')
      const image = join(this.path, `${name}.img`)
      rmSync(join(this.path, `${name}.map`))
      if (!existsSync(path)) continue
      writeFileSync(path, existsSync(image) ? readFileSync(image) : '')
      // What a process had mapped of it is gone with the memory.
      if (path.endsWith('-wal')) rmSync(path.replace(/-wal$/, '-shm'), { force: true })
    }
  }
}
