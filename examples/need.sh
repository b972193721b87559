#!/usr/bin/env bash
# Installs what the examples are written in and work with, for `make test`: on Debian and its like; elsewhere it says what
# is missing.
set -euo pipefail

missing=()
need() { # PACKAGE COMMAND...: the package, unless the command works.
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_server() { command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb'; }
has_psycopg2() { python3 -c 'import psycopg2' || /usr/bin/python3 -c 'import psycopg2'; }

need python3 command -v python3
need nodejs command -v node
need jq command -v jq
need postgresql has_server
need postgresql-client command -v psql
need python3-psycopg2 has_psycopg2
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing ${missing[*]}"
fail() {
  echo "the tests of the examples need ${missing[*]}: install it with your package manager" >&2
  exit 1
}
command -v apt-get >/dev/null || fail
# The tests run servers of their own; the package would start one for everybody.
cluster=/etc/postgresql-common/createcluster.conf
[ -e $cluster ] || { mkdir -p "${cluster%/*}" && echo 'create_main_cluster = false' >$cluster; } || fail
apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${missing[@]}" || fail
