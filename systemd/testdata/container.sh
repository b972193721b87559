# A booted copy of this machine, for test.sh: its own systemd over an overlay of the root file system, in systemd-nspawn.
# What is done there stays there. Nothing here is run on its own.

# not_run ends a test that says nothing about the service, because this machine cannot run it.
not_run() {
  echo "not run: $*"
  exit 77
}

can_run() {
  [[ $(uname -s) == Linux ]] || not_run "this is no Linux"
  ((EUID == 0)) || not_run "only root can boot a container"
  [[ -x /lib/systemd/systemd ]] || not_run "systemd is not installed here"
  local tool
  for tool in systemd-nspawn systemd-analyze nsenter make jq python3; do
    command -v "$tool" >/dev/null || not_run "$tool is not installed (Debian: systemd-container, util-linux, make, jq, python3)"
  done
}

# make_root mounts the overlay at $work/root, with none of the host's services enabled.
make_root() {
  root=$work/root
  mkdir "$root" "$work/upper" "$work/overlay"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/overlay" "$root" 2>"$work/said" ||
    not_run "no overlay over this root file system: $(<"$work/said")"
  rm -rf "$root"/etc/systemd/system/*.wants "$root"/var/log/journal/*
  rm -rf "$root"/etc/leasehold "$root"/var/lib/leasehold* "$root"/etc/systemd/system/leasehold*
  mkdir -p "$root/var/log/journal"
}

# own_cgroup moves the calling process to control groups of its own: the container's systemd takes what it is started in
# for the root of everything. Where the host runs systemd, nspawn sees to that itself.
own_cgroup() {
  [[ ! -d /run/systemd/system ]] || return 0
  local procs
  for procs in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
    local dir=${procs%/*}
    [[ -w $procs && ! -L $dir && $dir != */cpuset ]] || continue
    mkdir -p "$dir/$cgroup" && echo "$BASHPID" >"$dir/$cgroup/cgroup.procs"
  done
}

boot() {
  local keep=()
  [[ -d /run/systemd/system ]] || keep=(--keep-unit)
  (
    own_cgroup 2>>"$work/console"
    exec systemd-nspawn -q -D "$root" -b --register=no "${keep[@]}" --private-network --bind-ro="$source:/src" \
      systemd.mask=systemd-logind.service </dev/null >>"$work/console" 2>&1
  ) &
  nspawn=$!
  until_ok 30 booted
}

booted() {
  kill -0 "$nspawn" 2>/dev/null || { echo "the container ended: $(tail -n 3 "$work/console")"; return 1; }
  init=$(pgrep -P "$nspawn" -x systemd | head -n 1)
  [[ -n $init ]] && within systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded|starting'
}

# within runs a command in the container.
within() {
  nsenter -t "$init" -a env -i HOME=/root LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

power_off() {
  within systemctl poweroff >/dev/null 2>&1
  until_ok 100 gone "$nspawn" || return 1
  wait "$nspawn"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# until_ok tries a command until it succeeds; what it said last is the reason if it never does.
until_ok() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >"$work/tried" 2>&1; do
    ((SECONDS < end)) || { cat "$work/tried"; return 1; }
    sleep 0.2
  done
}

clean_up() {
  trap - EXIT INT TERM
  if [[ -n ${nspawn:-} ]] && ! gone "$nspawn"; then
    kill -TERM "$nspawn" # Asks the container's systemd to power off.
    until_ok 30 gone "$nspawn" >/dev/null || kill -KILL "$nspawn" ${init:+"$init"}
    wait "$nspawn" 2>/dev/null
  fi
  if [[ -n ${root:-} ]] && mountpoint -q "$root"; then
    umount "$root" || umount -l "$root"
  fi
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null
  rm -rf --one-file-system "$work"
}
