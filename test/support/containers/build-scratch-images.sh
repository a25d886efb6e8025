#!/usr/bin/env bash
# Builds ferryfs-test/riak-sim and ferryfs-test/toxiproxy from nothing but what is on this machine, for engines that
# cannot pull: the pinned Node with the libraries it is linked to and the simulator; and Toxiproxy's server, which
# TOXIPROXY_BINARY names (statically linked) or Go builds. With --toxiproxy DIRECTORY only the latter, into a directory,
# for where there will be an engine but no way to Go's modules.
set -euo pipefail
cd "$(dirname "$0")/../../.."

compile_toxiproxy() {
  CGO_ENABLED=0 GOFLAGS=-mod=mod GOBIN=$1 go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0
  echo "$1/server"
}

if [ "${1:-}" = --toxiproxy ]; then
  compile_toxiproxy "$2"
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

riak_sim() {
  local root=$work/riak-sim/root node library
  node=$(readlink -f node_modules/.bin/node)
  mkdir -p "$root/usr/bin" "$root/app/test/support" "$root/tmp"
  cp "$node" "$root/usr/bin/node"
  # Under the paths that ldd names, the loader included: they are the ones it looks for.
  ldd "$node" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  cp -r test/support/riak-sim "$root/app/test/support/"
  mkdir "$root/app/test/support/containers"
  cp test/support/containers/riak-sim-node.ts "$root/app/test/support/containers/"
  echo '{"type":"module"}' >"$root/app/package.json"
  cat >"$work/riak-sim/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY root/ /
EXPOSE 8087 8098
ENTRYPOINT ["/usr/bin/node", "/app/test/support/containers/riak-sim-node.ts"]
DOCKERFILE
  build riak-sim
}

toxiproxy() {
  local binary=${TOXIPROXY_BINARY:-}
  mkdir -p "$work/toxiproxy/root"
  if [ -z "$binary" ]; then
    binary=$(compile_toxiproxy "$work/bin")
  fi
  cp "$binary" "$work/toxiproxy/root/toxiproxy"
  cat >"$work/toxiproxy/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY root/ /
EXPOSE 8474
ENTRYPOINT ["/toxiproxy"]
CMD ["-host=0.0.0.0"]
DOCKERFILE
  build toxiproxy
}

# The classic builder where there is no other: it needs no base image, either.
build() {
  if docker buildx version >/dev/null 2>&1; then
    docker build --quiet --tag "ferryfs-test/$1" "$work/$1"
  else
    DOCKER_BUILDKIT=0 docker build --quiet --tag "ferryfs-test/$1" "$work/$1" 2>/dev/null
  fi
}

riak_sim
toxiproxy
