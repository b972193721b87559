#!/usr/bin/env bash
# The main job on real data: three nodes, 20,000 flights, two groups, and a check of every row. `make cluster` runs it.
set -euo pipefail
leasehold=${LEASEHOLD:-bin/leasehold}
dir=${DIR:-.cluster}
here=$(dirname "$0")

say() { printf '\n== %s\n' "$*"; }

if [ -e "$dir" ]; then
  say "a local cluster is left from before: ending it and starting afresh"
  "$leasehold" dev down --dir "$dir"
  rm -rf "$dir"
fi
say "three nodes on 127.0.0.1: clients 4222-4224, cluster 6222-6224, HTTP 8222-8224; data in $dir"
"$leasehold" dev --detach --dir "$dir" --topics "$here/flights.toml"

say "publishing 20,000 flights, keyed by origin airport"
"$leasehold" pub flights --addr 127.0.0.1:8222 --file "$here/flights-20k.ndjson" --key-field origin --id-field id

say "waiting until both groups have handled all of them"
"$leasehold" status --addr 127.0.0.1:8222 --until-idle --timeout 2m

say "checking what was handled against what was published"
python3 "$here/check.py" "$here/flights-20k.ndjson" "$dir/out/running" --file "$dir/out/file"

cat <<EOF

Try next:
  make cluster-kill N=2     kill -9 a node: the others take its partitions over
  make cluster-status       see who owns what
  make cluster-start N=2    start it again: it gets its share back
  make cluster-down         stop everything
EOF
