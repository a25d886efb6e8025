#!/usr/bin/env bash
# Runs a command with a container engine of its own, as root, on a machine where none runs:
#
#   test/support/containers/with-engine.sh COMMAND [ARGUMENT...]
#
# Engine and command share new namespaces for the network and mounts: the ports that containers publish are seen by this
# command alone, the engine's firewall rules touch nobody else, and nothing stays mounted. It needs dockerd, containerd,
# runc, iptables and docker (Debian: docker.io). Images are only those the command builds: there is no way out.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
  if [ $# -eq 0 ]; then
    echo "usage: $0 COMMAND [ARGUMENT...]" >&2
    exit 2
  fi
  for program in dockerd containerd runc iptables docker unshare ip; do
    command -v "$program" >/dev/null || { echo "$0: no $program (Debian: apt-get install docker.io)" >&2; exit 1; }
  done
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # What comes from outside has to come before the door shuts.
  if [ -z "${TOXIPROXY_BINARY:-}" ] && command -v go >/dev/null; then
    TOXIPROXY_BINARY=$("$(dirname "$0")/build-scratch-images.sh" --toxiproxy "$work/bin")
    export TOXIPROXY_BINARY
  fi
  unshare --net --mount -- "$0" --inside "$work" "$@"
  exit
fi
work=$2
shift 2

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
export DOCKER_HOST=unix://$work/docker.sock
dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" >"$work/log" 2>&1 &
engine=$!
finish() {
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
  # What is under a mount that a container left behind could not be removed.
  awk -v "work=$work/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
}
trap finish EXIT

until docker version >/dev/null 2>&1; do
  kill -0 "$engine" 2>/dev/null || { echo "$0: the engine has ended by itself:" >&2; tail -n 5 "$work/log" >&2; exit 1; }
  sleep 0.2
done

# Published ports are on this machine; there is no image of a reaper, and none needed: the engine ends with the command.
TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1 "$@"
