#!/usr/bin/env bash
# Every machine of a cluster: a virtual environment with the versions of constraints.txt, the same as `make setup` makes,
# and this package in it. Run by the cluster files; running it again changes nothing.
set -euo pipefail
cd ~/medvision
environment=~/medvision-venv # beside the mounted code, because Ray reads every mounted file before it copies any
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'
chmod 600 ~/.ray/auth_token # whoever has Ray's token can run programs here
# A trial in flight is about eight small processes on the head; by default Ray starts as many at once as there are cores.
# shellcheck disable=SC2016  # written as it stands
line='export PATH="$HOME/medvision-venv/bin:$PATH" RAY_AUTH_MODE=token RAY_worker_maximum_startup_concurrency=32'
grep -qxF "$line" ~/.bashrc || echo "$line" >>~/.bashrc
