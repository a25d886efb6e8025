import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/** Where it may do what, and with what. All paths are absolute. */
interface Playground {
  readonly seed: number
  /** The directory that DEST is in. */
  readonly home: string
  /** The name of DEST there. */
  readonly dest: string
  /** What is not to be touched, and not to be read. */
  readonly victim: string
  /** Names in the victim, and in the tree that is restored. */
  readonly names: readonly string[]
  /** In DEST as well, with mounts: what only root can do. */
  readonly asRoot: boolean
}

// A program of its own: a loop of system calls in this process would not race one that makes such calls in the same thread.
const PROGRAM = `
const fs = require('node:fs'), { join } = require('node:path'), { execFileSync } = require('node:child_process')
const { seed, home, dest, victim, names, asRoot } = JSON.parse(process.argv[1])
let state = seed >>> 0 || 1
const below = (n) => { state ^= state << 13; state >>>= 0; state ^= state >>> 17; state ^= state << 5; state >>>= 0; return state % n }
const one = (list) => list[below(list.length)]
const quietly = (body) => { try { body() } catch {} }
let serial = 0
const away = () => join(home, 'away-' + serial++ % 4)
const top = join(home, dest)
// What is not DEST's, by whatever link or mount it is reached: he leads others there, and does nothing in it himself.
const others = new Set((asRoot ? [victim, join(victim, 'sub')] : []).map((path) => fs.statSync(path).ino))
// A name of the tree in DEST, or in a directory of the tree there.
const inside = () => {
  const directory = below(2) === 0 ? top : join(top, one(names))
  if (others.has(fs.statSync(directory).ino)) throw new Error('not his')
  return join(directory, one(names))
}
const atHome = [
  () => fs.renameSync(top, away()),
  () => fs.renameSync(join(home, 'away-' + below(4)), top),
  () => fs.symlinkSync(victim, top),
  () => fs.unlinkSync(top),
  () => fs.mkdirSync(top),
  () => fs.rmdirSync(top),
  () => process.chdir(top),
  () => fs.writeFileSync(one(names), 'from where DEST was'),
  () => fs.symlinkSync(victim, one(names)),
  () => fs.writeFileSync(join(top, one(names)), 'before it was closed'),
  () => fs.chmodSync(top, 0o777),
]
const inDest = [
  () => { const p = inside(); fs.rmSync(p, { force: true }); fs.symlinkSync(join(victim, one(names)), p) },
  () => { const p = inside(); fs.renameSync(p, away()); fs.symlinkSync(victim, p) },
  () => { const p = inside(); fs.renameSync(p, away()); fs.linkSync(join(victim, one(names)), p) },
  () => { const p = inside(); fs.rmSync(p, { force: true }); fs.linkSync(join(victim, one(names)), p) },
  () => fs.mkdirSync(inside()),
  () => fs.unlinkSync(inside()),
  () => fs.rmdirSync(inside()),
  () => fs.renameSync(inside(), inside()),
  () => fs.writeFileSync(inside() + '-extra', 'more'),
  () => execFileSync('mount', ['--bind', victim, inside()], { stdio: 'ignore' }),
  () => execFileSync('mount', ['--bind', join(victim, one(names)), inside()], { stdio: 'ignore' }),
]
process.stdout.write('ready')
process.stdin.on('end', () => process.exit(0)).resume()
// The user lets a restore come to its end now and then.
const go = () => {
  for (let n = 0; n < (asRoot ? 20 : 3); n += 1) quietly(one(asRoot ? inDest : atHome))
  if (asRoot) setImmediate(go)
  else setTimeout(go, below(below(4) === 0 ? 150 : 8))
}
go()
`

/** Somebody who makes, swaps and removes things around a restore, as fast as he can. */
export class Adversary {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** @param uid whose it is; root's if not given. It is at work when this resolves. */
  static async start(playground: Playground, uid?: number): Promise<Adversary> {
    const child = spawn(process.execPath, ['-e', PROGRAM, JSON.stringify(playground)], {
      cwd: '/',
      stdio: ['pipe', 'pipe', 'inherit'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    })
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child
        .once('error', reject)
        .once('exit', (status) => reject(new Error(`the adversary ended with ${status}`)))
    })
    return new Adversary(child)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) throw new Error('the adversary ended by itself')
    const ended = once(this.#child, 'exit')
    this.#child.stdin?.end()
    await ended
  }
}
