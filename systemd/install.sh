#!/usr/bin/env bash
# install.sh install | uninstall, called by make. Without DESTDIR it also makes the user and tells systemd.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PREFIX:=/usr/local}" "${DESTDIR:=}" "${BIN:=bin/leasehold}"
[[ $PREFIX == /* ]] || { echo "PREFIX must be an absolute path, is $PREFIX" >&2; exit 2; }
PREFIX=${PREFIX%/}
units=$PREFIX/lib/systemd/system
doc=$PREFIX/share/doc/leasehold
config=/etc/leasehold # Where the agent looks; not below PREFIX.

# Every file that install makes: mode, source, place. Those below systemd/ name the default PREFIX and get the real one.
files() {
  echo "755 $BIN $PREFIX/bin/leasehold"
  echo "644 systemd/leasehold.service $units/leasehold.service"
  echo "644 systemd/leasehold.service $units/leasehold@.service"
  echo "644 systemd/leasehold@.service.d/instance.conf $units/leasehold@.service.d/instance.conf"
  echo "644 systemd/sysusers.d/leasehold.conf $PREFIX/lib/sysusers.d/leasehold.conf"
  echo "644 systemd/tmpfiles.d/leasehold.conf $PREFIX/lib/tmpfiles.d/leasehold.conf"
  echo "644 config.example.toml $config/config.toml.example"
  local f
  for f in systemd/leasehold.service.d.examples/*.conf; do
    echo "644 $f $doc/leasehold.service.d.examples/${f##*/}"
  done
  echo "644 systemd/README.md $doc/systemd.md"
  for f in docs/*.md docs/decisions/*.md docs/img/*.svg; do
    echo "644 $f $doc/${f#docs/}"
  done
}

# live holds if this is the running system and not a package's directory.
live() { [[ -z $DESTDIR ]]; }
booted() { live && [[ -d /run/systemd/system ]]; }

put() { # mode source place
  local to=$DESTDIR$3
  if [[ $2 == systemd/* && $2 != *.md ]]; then
    install -d "${to%/*}"
    sed "s|/usr/local|$PREFIX|g" "$2" >"$to.new"
    chmod "$1" "$to.new"
    mv "$to.new" "$to"
  else
    install -D -m "$1" "$2" "$to.new"
    mv "$to.new" "$to" # A rename: the binary of a running node can be replaced, and is never half there.
  fi
}

do_install() {
  [[ -x $BIN ]] || { echo "$BIN is not there: run \"make build\" first, not as root" >&2; exit 1; }
  install -d -m 750 "$DESTDIR$config"
  while read -r mode from to; do put "$mode" "$from" "$to"; done < <(files)
  if live; then
    systemd-sysusers "$PREFIX/lib/sysusers.d/leasehold.conf"
    systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/leasehold.conf"
  fi
  if booted; then systemctl daemon-reload; fi
  echo "installed $DESTDIR$PREFIX/bin/leasehold and leasehold.service"
  live || return 0
  if [[ -e $config/config.toml ]]; then
    echo "Running nodes go on with the old binary. Next, one node after the other: systemctl restart leasehold"
  else
    echo "Next: put config.toml (and cluster_secret) into $config, then: systemctl enable --now leasehold"
  fi
}

do_uninstall() {
  if booted; then
    systemctl disable --now leasehold.service 2>/dev/null || true
    local unit
    for unit in $(systemctl list-units --all --plain --no-legend 'leasehold@*.service' | cut -d' ' -f1); do
      systemctl disable --now "$unit" 2>/dev/null || true
    done
  fi
  while read -r _ _ to; do rm -f "$DESTDIR$to"; done < <(files)
  rm -rf "${DESTDIR}${doc:?}"
  rmdir "$DESTDIR$units/leasehold@.service.d" 2>/dev/null || true
  if booted; then
    systemctl daemon-reload
    systemctl reset-failed 'leasehold*' 2>/dev/null || true
  fi
  echo "uninstalled. Kept: the data (/var/lib/leasehold*), $config and the user leasehold."
  echo "To remove those as well, which cannot be undone: rm -r /var/lib/leasehold* $config; userdel leasehold"
}

case ${1:-} in
  install) do_install ;;
  uninstall) do_uninstall ;;
  *) echo "usage: $0 install|uninstall" >&2; exit 2 ;;
esac
