import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { type Proxy as ToxicProxy, Toxiproxy } from 'toxiproxy-node-client'

/** Toxiproxy's server under either of its names: as packaged, or as `go install` leaves it. */
export function findToxiproxy(): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), ...goBinaries()]
  const candidates = directories.flatMap((directory) => [
    join(directory, 'toxiproxy-server'),
    join(directory, 'server'),
  ])
  return candidates.find((path) => existsSync(path) && isToxiproxy(path))
}

const GO = 'go'

function goBinaries(): string[] {
  try {
    return [join(execFileSync(GO, ['env', 'GOPATH'], { encoding: 'utf8' }).trim(), 'bin')]
  } catch {
    return []
  }
}

/** Any program may be called `server`. */
function isToxiproxy(path: string): boolean {
  try {
    return execFileSync(path, ['-version'], { encoding: 'utf8', timeout: 5000 }).includes('toxiproxy')
  } catch {
    return false
  }
}

export interface ToxiproxyServer extends AsyncDisposable {
  /** A proxy on a loopback port in front of `upstream` (`host:port`). */
  proxy(name: string, upstream: string): Promise<ToxicProxy>
}

/** Starts the server on a free port, with a seed, so that its chances are the same in every run. */
export async function startToxiproxy(binary: string): Promise<ToxiproxyServer> {
  const port = await freePort()
  const child = spawn(binary, ['-host', '127.0.0.1', '-port', String(port), '-seed', '1'], {
    stdio: 'ignore',
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const client = new Toxiproxy(`http://127.0.0.1:${port}`)
  await answers(client, ended)
  return {
    async proxy(name, upstream) {
      return client.createProxy({ name, upstream, listen: `127.0.0.1:${await freePort()}` })
    },
    async [Symbol.asyncDispose]() {
      child.kill()
      await ended
    },
  }
}

async function answers(client: Toxiproxy, ended: Promise<void>): Promise<void> {
  let isOver = false
  void ended.then(() => {
    isOver = true
  })
  for (;;) {
    if (isOver) throw new Error('toxiproxy has ended by itself')
    try {
      await client.getVersion()
      return
    } catch {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
