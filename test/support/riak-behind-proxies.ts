import type { Proxy as ToxicProxy } from 'toxiproxy-node-client'
import type { ToxiproxyServer } from '../integration/riak/toxiproxy.ts'
import type { RiakTarget } from './riak-target.ts'

/** A target of which each node is reached through a proxy of its own. */
export interface ProxiedRiak {
  readonly proxies: readonly ToxicProxy[]
  /** A `riak://` URL through the proxies; the parameters come beside those of the target, or in their place. */
  url(parameters?: string): string
}

export async function behindProxies(target: RiakTarget, server: ToxiproxyServer): Promise<ProxiedRiak> {
  const proxies: ToxicProxy[] = []
  for (const [index, host] of target.hosts.split(',').entries())
    proxies.push(await server.proxy(`riak-${index + 1}`, host))
  const hosts = proxies.map(({ listen }) => listen).join(',')
  return {
    proxies,
    url(parameters = '') {
      const query = new URLSearchParams(target.url().split('?')[1])
      for (const [name, value] of new URLSearchParams(parameters)) query.set(name, value)
      return `riak://${hosts}/${query.size === 0 ? '' : `?${query.toString()}`}`
    },
  }
}
