#!/usr/bin/env bash
# Switches this worker off when Ray has been gone from it for a while, because its head is gone: a machine that nobody
# uses any more costs nothing. Runs in the background until then.
# usage: orphan.sh MINUTES
set -euo pipefail
gone=0
while [ "$gone" -lt "$1" ]; do
    sleep 60
    if pgrep -x raylet >/dev/null; then gone=0; else gone=$((gone + 1)); fi
done
sudo shutdown -h now
