#!/usr/bin/env bash
# mk/figures.sh [TREE] prints what the code of a tree looks like in numbers; the default is this one. A former commit:
#   git worktree add /tmp/then COMMIT && mk/figures.sh /tmp/then; git worktree remove /tmp/then
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
tree=${1:-$tools/..}
program=$(mktemp)
trap 'rm -f "$program"' EXIT
go build -o "$program" "$tools/figures.go"
cd "$tree"
go list -json=ImportPath,Dir,GoFiles,Imports ./... | "$program"
