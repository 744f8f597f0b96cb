#!/usr/bin/env bash
# MLflow on this machine's loopback, on PostgreSQL behind a Unix socket: neither listens on the network, and the database
# knows this user only. Each call starts what is not running.
# usage: mlflow.sh ARTIFACTS [PORT]      ARTIFACTS: a folder or s3://bucket/folder
set -euo pipefail
artifacts=$1 port=${2:-5000}
home=~/mlflow-server database=~/mlflow-server/database
mkdir -p "$home"

programs=(/usr/lib/postgresql/*/bin)
if [ ! -x "${programs[0]}/initdb" ]; then
    sudo apt-get -o DPkg::Lock::Timeout=600 update -qq
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq postgresql
    programs=(/usr/lib/postgresql/*/bin)
fi
PATH="${programs[-1]}:$PATH"
[ -f "$database/PG_VERSION" ] || initdb --pgdata="$database" --auth-local=peer --auth-host=reject >"$home/initdb.log"
if ! pg_ctl --pgdata="$database" status >/dev/null; then
    pg_ctl --pgdata="$database" --log="$home/database.log" --wait --options="-k $home -c listen_addresses=''" start >/dev/null
fi
psql --host="$home" --list --quiet --tuples-only --dbname=postgres | cut -d'|' -f1 | grep -qw mlflow || createdb --host="$home" mlflow

if ! curl --silent --fail "http://127.0.0.1:$port/health" >/dev/null; then
    MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=20 setsid nohup mlflow server --host 127.0.0.1 --port "$port" --workers 2 \
        --backend-store-uri "postgresql+psycopg2:///mlflow?host=$home" --artifacts-destination "$artifacts" \
        >"$home/server.log" 2>&1 </dev/null &
    for _ in $(seq 120); do
        sleep 1
        if curl --silent --fail "http://127.0.0.1:$port/health" >/dev/null; then break; fi
    done
fi
curl --silent --fail "http://127.0.0.1:$port/health" >/dev/null || { tail -n 20 "$home/server.log" >&2; exit 1; }
line="export MLFLOW_TRACKING_URI=http://127.0.0.1:$port"
grep -qxF "$line" ~/.bashrc || echo "$line" >>~/.bashrc
