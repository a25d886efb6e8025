import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findToxiproxy } from '../../integration/riak/toxiproxy.ts'

export const HOW_TO_GET_TOXIPROXY =
  'The network faults need Toxiproxy: put its server (toxiproxy-server, or server as "go install ' +
  'github.com/Shopify/toxiproxy/v2/cmd/server@latest" names it) on the PATH, or set FERRYFS_TOXIPROXY_IMAGE where a ' +
  'container engine runs. Or run with --store embedded, which has no network.'

/** The file that starts a Toxiproxy server: a program, or a script that runs the image. */
export function toxiproxyProgram(): string | undefined {
  return findToxiproxy() ?? containerScript(process.env.FERRYFS_TOXIPROXY_IMAGE)
}

function containerScript(image: string | undefined): string | undefined {
  if (image === undefined || image === '' || !/^[\w./:@-]+$/.test(image)) return undefined
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], {
      stdio: ['ignore', 'ignore', 'ignore'],
      timeout: 10_000,
    })
  } catch {
    return undefined
  }
  // The host's network: the proxies listen on its loopback, where the nodes of the store are reached, too.
  const script = join(mkdtempSync(join(tmpdir(), 'ferryfs-chaos-toxiproxy-')), 'run')
  writeFileSync(script, `#!/bin/sh\nexec docker run --rm --network host ${image} "$@"\n`)
  chmodSync(script, 0o755)
  return script
}
