#!/bin/sh
# Installs what the fault matrix uses where apt-get can; rows that still lack something say "not run" and why.
set -eu
want=
add() { command -v "$1" >/dev/null || want="$want $2"; }
add nft nftables
add ip iproute2
add ss iproute2
add strace strace
add mkfs.ext4 e2fsprogs
[ -z "$want" ] && exit 0
echo "installing$want"
{ apt-get update -q && apt-get install -y -q --no-install-recommends $want; } >/dev/null 2>&1 || echo "could not install$want: some rows will not run"
