import type { Toxic, Proxy as ToxicProxy, ToxicType } from 'toxiproxy-node-client'

export interface ToxicOf {
  readonly type: ToxicType
  readonly attributes: Readonly<Record<string, number>>
  readonly stream?: 'upstream' | 'downstream'
  /** Part of the connections that it affects. */
  readonly toxicity?: number
}

// The server lists toxics, but its client does not read the list.
const added = new WeakMap<ToxicProxy, Toxic<unknown>[]>()

export async function addToxics(proxies: readonly ToxicProxy[], toxics: readonly ToxicOf[]): Promise<void> {
  for (const proxy of proxies) {
    const known = added.get(proxy) ?? []
    added.set(proxy, known)
    for (const { type, attributes, stream = 'downstream', toxicity = 1 } of toxics) {
      const name = `chaos-${known.length}`
      known.push(await proxy.addToxic<unknown>({ name, type, stream, toxicity, attributes }))
    }
  }
}

/** Takes away every toxic, and opens every line. */
export async function removeToxics(proxies: readonly ToxicProxy[]): Promise<void> {
  for (const proxy of proxies) {
    const known = added.get(proxy) ?? []
    for (let toxic = known.pop(); toxic; toxic = known.pop()) await toxic.remove()
    await setOpen(proxy, true)
  }
}

/** Opens or closes a line; connections over a line that closes are cut. */
export async function setOpen(proxy: ToxicProxy, enabled: boolean): Promise<void> {
  const { name, listen, upstream, toxiproxy } = proxy
  const current = await toxiproxy.get(name)
  if (current.enabled !== enabled) await current.update({ enabled, listen, upstream })
}
