import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Action, type Reply, replySchema } from '../actions.ts'

const AGENT = fileURLToPath(new URL('./agent.ts', import.meta.url))

/** A system call has not come back in time: what P6 forbids. */
export class Hang extends Error {}

/** An application: a child process that makes system calls in the mount, one at a time. */
export class Client {
  readonly name: string
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (reply: Reply | Error) => void>()
  readonly #ended: Promise<void>
  #next = 1
  #output = ''

  constructor(name: string, root: string) {
    this.name = name
    this.#child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', AGENT, root], {
      cwd: '/',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const { stdout, stderr } = this.#child
    if (!stdout || !stderr) throw new Error('a client has no output')
    createInterface({ input: stdout }).on('line', (line) => this.#received(line))
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
    })
    this.#child.stdin?.on('error', () => undefined)
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', () => {
        const error = new Error(`client ${name} has ended: ${this.#output.slice(-1000)}`)
        for (const settle of this.#waiting.values()) settle(error)
        this.#waiting.clear()
        resolve()
      })
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** @throws Hang if the answer is not there after so many milliseconds */
  call(action: Action, deadlineMs: number): Promise<Reply> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Hang(`no answer within ${deadlineMs} ms`))
      }, deadlineMs)
      this.#waiting.set(id, (reply) => {
        clearTimeout(timer)
        if (reply instanceof Error) reject(reply)
        else resolve(reply)
      })
      this.#child.stdin?.write(`${JSON.stringify({ id, action })}\n`)
    })
  }

  /** Ends it, with everything that it has open. */
  async end(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }

  #received(line: string): void {
    const reply = replySchema.parse(JSON.parse(line))
    const settle = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    settle?.(reply)
  }
}
