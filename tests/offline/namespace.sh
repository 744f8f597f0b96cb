#!/usr/bin/env bash
# Runs a command where nothing answers and everything that it asks the outside is written down:
#   unshare --net --mount --fork --kill-child bash namespace.sh RECORD PYTHON COMMAND...
set -euo pipefail
record=$1 python=$2
shift 2
ip link set lo up
ip link add outside type veth peer name wall
ip link set wall up
ip link set outside arp off up # without ARP, packets leave though nobody is there
ip addr add 10.99.0.1/24 dev outside
ip route add default dev outside
echo nameserver 127.0.0.1 >"$record.resolv"
mount --bind "$record.resolv" /etc/resolv.conf
: >"$record"
"$python" "$(dirname "$0")/recorder.py" "$record" &
trap 'kill $!' EXIT
until grep -q ready "$record"; do sleep 0.1; done
"$@"
