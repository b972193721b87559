#!/usr/bin/env bash
# Tests the service where it will live: in a booted systemd. Prints one line a claim (TAP), exits 0 if all hold, 1 if
# not, and 77 ("not run: …") if this machine cannot run it. `make systemd-test` builds what it needs.
# KEEP_LOG=FILE keeps the container's journal.
set -uo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /var/tmp/leasehold-systemd.XXXXXX)
cgroup=leasehold-test.$$
number=0 failed=0 skipped=0 detail=''
# shellcheck source=testdata/container.sh
. "$source/systemd/testdata/container.sh"
trap clean_up EXIT
trap 'exit 130' INT TERM

# check runs a command and says whether the claim holds; what the command said is the reason if not.
check() {
  local claim=$1
  shift
  number=$((number + 1)) detail=''
  if "$@" >"$work/said" 2>&1; then
    echo "ok $number - $claim${detail:+ ($detail)}"
    return
  fi
  echo "not ok $number - $claim"
  head -n 40 "$work/said" | sed 's/^/#   /'
  failed=$((failed + 1))
}

skip() {
  number=$((number + 1)) skipped=$((skipped + 1))
  echo "ok $number - $1 # SKIP not run: $2"
}

no() {
  echo "$*"
  return 1
}

equal() { [[ $2 == "$3" ]] || no "$1: is \"$2\", should be \"$3\""; }

property() { within systemctl show -P "$2" "$1"; }

# --- What a unit must look like, without running it.

exposure() {
  local out
  out=$(systemd-analyze security --offline=true --no-pager --threshold=20 "$1" 2>&1) || no "$(tail -n 1 <<<"$out")" || return
  detail=$(tail -n 1 <<<"$out" | grep -oE '[0-9]+\.[0-9]+')
}

verify() {
  local out
  out=$(within systemd-analyze verify "$@" 2>&1)
  [[ -z $out ]] || no "$out"
}

# --- Installing.

install_it() {
  touch "$root/root/before"
  within make -s -C /src install || return
  detail=$(within leasehold version | head -n 1)
}

# packaged installs into a directory as a package build does, and takes everything out again.
packaged() {
  local dest=$work/package unit
  make -s -C "$source" install DESTDIR="$dest" PREFIX=/usr >/dev/null || return
  unit=$dest/usr/lib/systemd/system/leasehold.service
  grep -q '^ExecStart=/usr/bin/leasehold ' "$unit" && [[ -x $dest/usr/bin/leasehold ]] || no "$unit does not start the binary" || return
  ! grep -r /usr/local "$dest/usr/lib" || return
  detail="$(find "$dest" -type f | wc -l) files"
  make -s -C "$source" uninstall DESTDIR="$dest" PREFIX=/usr >/dev/null || return
  equal "files left" "$(find "$dest" -type f)" ""
}

user_exists() {
  local shell
  shell=$(within getent passwd leasehold | cut -d: -f7)
  equal "login shell" "$shell" /usr/sbin/nologin
}

start_refused() {
  within systemctl start leasehold && no "a start without a config succeeded" && return
  equal "state" "$(property leasehold ActiveState)" inactive
}

# --- One node.

single_config() {
  cat <<CONFIG
[node]
name = "n1"

[[topic]]
name = "events"
partitions = 8

[[group]]
name = "python"
topic = "events"
handler = { kind = "subprocess", command = ["/usr/bin/python3", "/opt/handlers/handler.py"], env = { OUT = "/var/lib/leasehold/out" } }
CONFIG
  local language
  for language in "${languages[@]}"; do
    echo -e "\n[[group]]\nname = \"$language\"\ntopic = \"events\""
    echo "handler = { kind = \"subprocess\", processes = 1, start_timeout = \"60s\", command = [$(command_of "$language")], env = { OUT = \"/var/lib/leasehold/out\" } }"
  done
}

command_of() {
  case $1 in
    node) echo '"/usr/bin/node", "/opt/handlers/handler.js"' ;;
    java) echo '"/usr/bin/java", "/opt/handlers/Handler.java"' ;;
  esac
}

up() { # unit
  local begun=$SECONDS
  within systemctl start "$1" || { within journalctl -u "$1" -n 20 --no-pager; return 1; }
  equal "state" "$(property "$1" ActiveState)" active || return
  equal "type" "$(property "$1" Type)" notify || return
  detail="$((SECONDS - begun)) s"
}

status_text() { # unit pattern
  local text
  text=$(property "$1" StatusText)
  [[ $text =~ $2 ]] || no "StatusText is \"$text\""
}

says() { # unit pattern
  until_ok 60 status_text "$@" && detail=$(property "$1" StatusText)
}

# pids_of lists a unit's processes by the container's numbers.
pids_of() { within sh -c "grep -lsE '/$1\$' /proc/[0-9]*/cgroup" | cut -d/ -f3 | sort -un; }

no_rights() {
  local pid text all=0
  for pid in $(pids_of 'leasehold.service'); do
    text=$(within cat "/proc/$pid/status") || continue
    all=$((all + 1))
    [[ $(awk '/^Uid:/ {print $2, $3, $4, $5}' <<<"$text" | tr ' ' '\n' | sort -u) == "$uid" ]] || no "pid $pid is not user $uid" || return
    [[ $(awk '/^Cap(Inh|Prm|Eff|Bnd|Amb):/ {print $2}' <<<"$text" | sort -u) == 0000000000000000 ]] || no "pid $pid has capabilities" || return
    [[ $(awk '/^(NoNewPrivs|Seccomp):/ {print $2}' <<<"$text" | xargs) == "1 2" ]] || no "pid $pid is not confined" || return
  done
  ((all >= 2)) || no "only $all processes" || return
  detail="$all processes, user $(within id -nu "$uid")"
}

modes() {
  equal "config" "$(within stat -c '%a %U:%G' /etc/leasehold/config.toml)" "640 root:leasehold" &&
    equal "secret" "$(within stat -c '%a %U:%G' /etc/leasehold/cluster_secret)" "600 root:root" &&
    equal "data" "$(within stat -c '%a %U:%G' /var/lib/leasehold)" "710 leasehold:leasehold"
}

# rows prints a batch of messages as NDJSON.
rows() { # name count
  local i
  for ((i = 0; i < $2; i++)); do echo "{\"id\":\"$1-$i\",\"k\":\"k$((i % 40))\"}"; done
}

publish() { # config name count [flags]
  rows "$2" "$3" >"$root/root/$2.ndjson"
  within leasehold pub events --config "$1" --file "/root/$2.ndjson" --key-field k --id-field id "${@:4}" >/dev/null
}

idle() { within leasehold status --config "$1" --until-idle --timeout 90s; }

# calls counts the messages that a handler was called for, and the calls.
calls() { within sh -c "cat /var/lib/leasehold$1/out/calls.$2 | sort -u | wc -l; cat /var/lib/leasehold$1/out/calls.$2 | wc -l" | xargs; }

once_each() { # suffix language count: every message was handled exactly once
  equal "messages, calls of $2" "$(calls "$1" "$2")" "$3 $3" && detail="$3 messages"
}

suffix() { case $1 in python) echo py ;; node) echo js ;; *) echo "$1" ;; esac; }

confined() {
  local facts
  facts=$(cat "$root"/var/lib/leasehold/out/facts.* | jq -sc '[.[] | {worked, uid, memory, managed}] | unique')
  equal "what a handler could do" "$facts" "[{\"worked\":[],\"uid\":$uid,\"memory\":true,\"managed\":[]}]" || return
  # The same attempts by root outside the sandbox show that they can succeed at all. (Some a container's root cannot.)
  within unshare -m env OUT=/root/out python3 /opt/handlers/handler.py </dev/null
  local free
  free=$(cat "$root"/root/out/facts.* | jq '.worked | length')
  ((free >= 10)) || no "only $free attempts work without the sandbox: $(cat "$root"/root/out/facts.*)" || return
  detail="$(cat "$root"/root/out/facts.* | jq .tried) attempts, of which $free work for the container's root"
}

member_may() { within runuser -u member -- leasehold status >/dev/null; }

stranger_may_not() {
  within runuser -u stranger -- leasehold status
  equal "exit code" $? 4 || return
  within runuser -u stranger -- leasehold status --addr /var/lib/leasehold/leasehold.sock
  equal "exit code at the socket" $? 4
}

restarted() { # unit former-pid
  local pid
  pid=$(property "$1" MainPID)
  [[ $(property "$1" ActiveState) == active && $pid != 0 && $pid != "$2" ]] || no "not restarted yet"
}

# hang stops the node's process; the watchdog must notice.
hang() {
  local pid begun=$SECONDS
  pid=$(property leasehold MainPID)
  within kill -STOP "$pid"
  until_ok 40 restarted leasehold "$pid" || return
  in_journal leasehold "Watchdog timeout" && in_journal leasehold "goroutine 1 " || return
  detail="back after $((SECONDS - begun)) s, WatchdogSec=$(property leasehold WatchdogUSec), stacks in the journal"
}

in_journal() { within journalctl -u "$1" -b --no-pager | grep "$2" >/dev/null || no "the journal does not say \"$2\""; }

crash() {
  local pid children begun=$SECONDS
  pid=$(property leasehold MainPID)
  children=$(pids_of leasehold.service | grep -vx "$pid")
  [[ -n $children ]] || no "no handlers run" || return
  within kill -KILL "$pid"
  until_ok 30 restarted leasehold "$pid" || return
  until_ok 10 none_of $children || return
  detail="back after $((SECONDS - begun)) s, none of $(wc -w <<<"$children") children outlived it"
}

none_of() {
  local pid
  for pid in "$@"; do ! within test -d "/proc/$pid" || no "process $pid is still there" || return; done
}

hang_up() {
  local pid
  pid=$(property leasehold MainPID)
  within systemctl reload leasehold 2>/dev/null && no "systemctl reload claims to work" && return
  within kill -HUP "$pid"
  until_ok 30 restarted leasehold "$pid"
}

# never_gives_up lets it die more often than systemd's default limit (5 starts in 10 s) would bear.
never_gives_up() {
  local i pid begun=$SECONDS quick=$root/etc/systemd/system/leasehold.service.d/quick.conf
  printf '[Service]\nRestartSec=200ms\n' >"$quick"
  within systemctl daemon-reload
  for i in 1 2 3 4 5 6 7 8; do
    pid=$(property leasehold MainPID)
    within kill -KILL "$pid"
    until_ok 10 restarted leasehold "$pid" || return
  done
  detail="$i deaths in $((SECONDS - begun)) s"
  rm "$quick"
  within systemctl daemon-reload
  # On a slow machine the deaths are too far apart for the limit to bite.
  equal "StartLimitIntervalUSec" "$(property leasehold StartLimitIntervalUSec)" 0
}

# stop_in_call stops the node while a call of 4 s is under way: it must finish, and nothing may be left.
stop_in_call() {
  local begun id
  within rm -f /var/lib/leasehold/out/slow.begun
  within leasehold pub events --key slow '{"slow":1}' >/dev/null || return
  until_ok 20 test -s "$root/var/lib/leasehold/out/slow.begun" || return
  id=$(<"$root/var/lib/leasehold/out/slow.begun")
  begun=$SECONDS
  within systemctl stop leasehold || return
  equal "result" "$(property leasehold Result)" success || return
  equal "exit status" "$(property leasehold ExecMainStatus)" 0 || return
  grep -qx "$id" "$root/var/lib/leasehold/out/calls.py" || no "the call under way was not finished" || return
  equal "processes left" "$(pids_of leasehold.service)" "" || return
  detail="$((SECONDS - begun)) s of TimeoutStopSec=$(property leasehold TimeoutStopUSec)"
}

not_repeated() {
  within systemctl start leasehold && idle /etc/leasehold/config.toml >/dev/null || return
  local slow
  slow=$(sort "$root/var/lib/leasehold/out/slow.begun" | uniq -d)
  equal "calls after the stop" "$slow" ""
}

# other_host makes a network of its own with one address, 10.99.0.2, that reaches this machine's 10.99.0.1.
other_host() {
  within sh -ec 'ip netns add far
    ip link add near type veth peer name eth0 netns far
    ip addr add 10.99.0.1/24 dev near && ip link set near up
    ip -n far addr add 10.99.0.2/24 dev eth0 && ip -n far link set eth0 up'
}

# with_user opens the client port to that network, for one user with a password and over TLS.
with_user() {
  other_host || return
  within sh -ec 'mkdir -m 755 /srv/press && cd /srv/press
    head -c 24 /dev/urandom | base64 | tee password | leasehold user hash >/etc/leasehold/press.hash
    echo wrong-password-of-some-length >wrong && chmod 644 *
    chown leasehold /etc/leasehold/press.hash && chmod 600 /etc/leasehold/press.hash'
  cat - "$root/etc/leasehold/config.toml" >"$root/root/opened.toml" <<'CONFIG'
[server]
listen = "10.99.0.1:4222"
tls = { mode = "cluster-ca" }

[cluster]
secret_file = "cluster_secret"

[[user]]
name = "press"
password_file = "press.hash"
publish = ["events"]

CONFIG
  mv "$root/root/opened.toml" "$root/etc/leasehold/config.toml"
  within sh -c 'leasehold tls ca >/srv/press/ca.pem' && within systemctl restart leasehold && idle /etc/leasehold/config.toml
}

from_afar() { # password-file: publishes as another machine's user would
  within ip netns exec far runuser -u stranger -- leasehold pub events --key far '{"id":"far"}' \
    --server tls://10.99.0.1:4222 --user press --password-file "/srv/press/$1" --tls-ca /srv/press/ca.pem
}

stored() { within leasehold status -o json | jq '.topics[0].last_seq'; }

user_only() {
  local before
  before=$(stored)
  from_afar wrong && no "a wrong password was let in" && return
  equal "messages after a wrong password" "$(stored)" "$before" || return
  from_afar password || return
  equal "messages after the right one" "$(stored)" $((before + 1)) && idle /etc/leasehold/config.toml &&
    detail="10.99.0.2 to 10.99.0.1 over TLS, hash file 0600"
}

single_node() {
  mkdir -p "$root/opt/handlers" "$root/etc/systemd/system/leasehold.service.d"
  install -m 644 "$source"/systemd/testdata/{handler.py,handler.js,Handler.java} "$root/opt/handlers/"
  printf '[Service]\nWatchdogSec=6\n' >"$root/etc/systemd/system/leasehold.service.d/test.conf"
  within systemctl daemon-reload
  single_config >"$root/etc/leasehold/config.toml"
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/leasehold/cluster_secret"
  chmod 644 "$root"/etc/leasehold/c*
  uid=$(within id -u leasehold)
  within useradd -M -G leasehold member
  within useradd -M stranger

  check "READY: the unit is active and of type notify" up leasehold
  check "STATUS says how many partitions it holds" says leasehold '^ready: [1-9]'
  check "owners and modes of config, secret and data are set at the start" modes
  local one=/etc/leasehold/config.toml language
  publish $one first 400
  idle $one >/dev/null
  check "a python handler runs under the sandbox" once_each "" py 400
  for language in node java; do
    if [[ " ${languages[*]} " == *" $language "* ]]; then
      check "a $language handler runs under the sandbox" once_each "" "$(suffix $language)" 400
    else
      skip "a $language handler runs under the sandbox" "/usr/bin/$language is not installed"
    fi
  done
  check "node and handlers: own user, no capability, no new privileges, system calls filtered" no_rights
  check "a handler can do none of what a hijacked one would try" confined
  check "a member of the group may ask the agent" member_may
  check "another user may not" stranger_may_not
  check "a stopped process (SIGSTOP) is noticed by the watchdog and restarted" hang
  check "STATUS is back after it" says leasehold '^ready: [1-9]'
  check "kill -9: restarted, and no handler outlives the node" crash
  check "a reload is refused, and SIGHUP does not end the node for good" hang_up
  check "it never gives up restarting" never_gives_up
  publish $one second 400
  idle $one >/dev/null
  check "what was published before and after is all handled" test "$(calls "" py | cut -d' ' -f1)" = 800
  check "systemctl stop lets the call under way finish and leaves no process" stop_in_call
  check "the finished call is not repeated after the next start" not_repeated
  check "a user's password and TLS from the cluster's secret work under the unit" with_user
  check "that user publishes from another host's address; with a wrong password nothing is stored" user_only
  within systemctl stop leasehold
}

# --- Three nodes.

cluster_configs() {
  within leasehold init --cluster-name test --out /root/site --topic events:12 \
    --nodes n1=127.0.0.1:16221,n2=127.0.0.1:16222,n3=127.0.0.1:16223 >/dev/null || return
  local i file
  for i in 1 2 3; do
    file=$root/root/site/n$i/config.toml
    sed -i -e "s|^data_dir = .*|data_dir = \"/var/lib/leasehold-n$i\"\n\n[server]\nlisten = \"127.0.0.1:1422$i\"\n\n[http]\nlisten = \"127.0.0.1:1822$i\"|" "$file"
    echo -e "\n[[group]]\nname = \"log\"\ntopic = \"events\"" >>"$file"
    echo "handler = { kind = \"subprocess\", processes = 1, command = [\"/usr/bin/python3\", \"/opt/handlers/handler.py\"], env = { OUT = \"/var/lib/leasehold-n$i/out\" } }" >>"$file"
    cp -r "$root/root/site/n$i" "$root/etc/leasehold/"
  done
}

at() { echo "/etc/leasehold/n$1/config.toml"; }

healthy() { local out; out=$(within leasehold status --config "$(at "$1")" 2>&1) || no "$(head -n 1 <<<"$out")"; }

# gate is what one waits for before the next node is touched.
gate() { until_ok 90 healthy 1 && until_ok 30 healthy 2 && until_ok 30 healthy 3; }

no_secret() {
  mv "$root/etc/leasehold/n1/cluster_secret" "$root/root/kept"
  within systemctl start leasehold@n1 && no "a node without its secret is up" && return
  until_ok 10 in_journal leasehold@n1 'cluster_secret.*is not 64 hexadecimal' || return
  mv "$root/root/kept" "$root/etc/leasehold/n1/cluster_secret"
  until_ok 20 restarted leasehold@n1 0 || return
  detail="the journal says why"
}

all_up() {
  local begun=$SECONDS
  within systemctl start leasehold@n2 leasehold@n3 && gate || return
  detail="healthy after $((SECONDS - begun)) s"
}

share() { # all three hold partitions, 12 together
  local sum=0 i text
  for i in 1 2 3; do
    text=$(property "leasehold@n$i" StatusText)
    [[ $text =~ ^ready:\ ([1-9][0-9]*) ]] || no "n$i says \"$text\"" || return
    sum=$((sum + BASH_REMATCH[1]))
  done
  equal "partitions" "$sum" 12
}

spread() { until_ok 60 share && detail=$(for i in 1 2 3; do property leasehold@n$i StatusText; done | xargs); }

all_calls() { cat "$root"/var/lib/leasehold-n*/out/calls.py; }

handled() { # count: each message once, over all nodes
  idle "$(at 1)" >/dev/null
  equal "messages" "$(all_calls | sort -u | wc -l)" "$1" && equal "calls" "$(all_calls | wc -l)" "$1" && detail="$1 messages"
}

none_unowned() { equal "unowned" "$(within leasehold status --config "$(at 1)" -o json | jq '[.groups[].unowned] | add')" 0; }

owned_by() { within leasehold status --config "$(at "$1")" -o json | jq "[.groups[].partitions[] | select(.owner == \"n$2\")] | length"; }

# hand_over stops n2 under load and looks at n1 at once: nothing may be waiting for a ttl.
hand_over() {
  publish "$(at 1)" load 1500 --rate 300 &
  local load=$! begun
  sleep 1
  begun=$SECONDS
  within systemctl stop leasehold@n2 || return
  local took=$((SECONDS - begun)) of2
  until_ok 2 none_unowned || return
  of2=$(owned_by 1 2)
  wait "$load" || no "publishing failed" || return
  equal "still n2's" "$of2" 0 && equal "result" "$(property leasehold@n2 Result)" success &&
    detail="stopped in $took s, 0 unowned, 0 left with n2"
}

# upgrade puts a new binary in and restarts one node after the other, while messages come in at another one.
upgrade() {
  within make -s -C /src install BIN="${upgrade_bin#"$source/"}" >/dev/null || return
  local i other begun=$SECONDS
  for i in 1 2 3; do
    other=$((i % 3 + 1))
    publish "$(at $other)" "up$i" 600 --rate 200 &
    local load=$!
    sleep 1
    within systemctl restart "leasehold@n$i" && gate || return
    wait "$load" || no "publishing at n$other failed while n$i was restarted" || return
  done
  local versions
  versions=$(within leasehold status --config "$(at 1)" -o json | jq -r '[.nodes[].version] | unique | join(" ")')
  equal "versions" "$versions" "$(within leasehold version -o json | jq -r .version)" && detail="$versions, $((SECONDS - begun)) s"
}

cluster() {
  check "init writes three configs" cluster_configs
  check "a node whose secret is missing says so, tries again, and is up once it is there" no_secret
  check "one node alone is up; STATUS names the nodes it waits for" says leasehold@n1 'waiting for: .*n2.*n3'
  check "all three are healthy (leasehold status exits 0)" all_up
  check "partitions are spread over the three" spread
  publish "$(at 1)" begin 600
  check "each message is handled once" handled 600
  check "systemctl stop of one node under load hands its leases over" hand_over
  within systemctl start leasehold@n2
  gate >/dev/null
  check "each message is handled once, none twice, over the stop and the start" handled 2100
  if [[ -x $upgrade_bin ]]; then
    check "a new binary, one node at a time under load, leasehold status as the gate" upgrade
    check "each message is handled once, none twice, over the upgrade" handled 3900
  else
    skip "upgrade one node at a time" "no second binary (make systemd-test builds one)"
  fi
}

# --- Power-off, boot, uninstall.

# slow_network makes the network come up late at the next boot.
slow_network() {
  cat >"$root/etc/systemd/system/slow-net.service" <<'UNIT'
[Unit]
Before=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sleep 3
UNIT
  mkdir -p "$root/etc/systemd/system/network-online.target.wants"
  ln -sf ../slow-net.service "$root/etc/systemd/system/network-online.target.wants/"
}

clean_off() {
  local begun=$SECONDS since out
  within systemctl enable leasehold@n1 leasehold@n2 leasehold@n3 2>/dev/null
  since=$(date +%s)
  power_off || no "the container did not power off by itself" || return
  out=$(journalctl -D "$root/var/log/journal" --since "@$since" --no-pager 2>/dev/null)
  ! grep -E 'leasehold@.*(timed out|Killing|Failed with)' <<<"$out" || return
  equal "clean ends" "$(grep -c 'leasehold@n[123].service: Deactivated successfully' <<<"$out")" 3 &&
    detail="$((SECONDS - begun)) s for all three at once"
}

order() {
  boot && gate || return
  local i online up
  online=$(property slow-net.service ActiveEnterTimestampMonotonic)
  for i in 1 2 3; do
    up=$(property leasehold@n$i ExecMainStartTimestampMonotonic)
    ((online > 0 && up >= online)) || no "n$i was started at $up µs, the network was up at $online µs" || return
  done
  detail="$(((up - online) / 1000)) ms after the network, which took 3 s"
}

data_there() {
  equal "last_seq" "$(within leasehold status --config "$(at 1)" -o json | jq '.topics[0].last_seq')" "$(all_calls | sort -u | wc -l)"
}

uninstalled() {
  within make -s -C /src uninstall || return
  equal "processes" "$(pids_of 'leasehold@n[123].service')" "" || return
  local left
  left=$(within sh -c 'find /usr /etc /opt /var/lib -xdev -path "*leasehold*" -newer /root/before' |
    grep -vE '^/(etc/leasehold|var/lib/leasehold|etc/systemd/system/leasehold.*d(/test.conf)?$)' || true)
  equal "files left" "$left" "" || return
  within systemctl cat leasehold.service 2>/dev/null && no "the unit is still known"
  return 0
}

data_kept() {
  within test -s /etc/leasehold/config.toml && within test -s /etc/leasehold/n1/cluster_secret &&
    within test -d /var/lib/leasehold-n1/jetstream && within test -s /var/lib/leasehold/identity.json &&
    within id leasehold >/dev/null
}

# --- All of it.

can_run
[[ -x $source/bin/leasehold ]] || not_run "bin/leasehold is not there: make build"
upgrade_bin=$source/bin/upgrade/leasehold
languages=()
[[ ! -x /usr/bin/node ]] || languages+=(node)
[[ ! -x /usr/bin/java || ! -x /usr/bin/javac ]] || languages+=(java)
make_root
echo "# systemd $(systemctl --version | awk 'NR==1 {print $2}'), kernel $(uname -r)"
boot >"$work/said" || not_run "the container does not boot: $(<"$work/said")"

check "exposure of leasehold.service is at most 2.0" exposure "$source/systemd/leasehold.service"
for file in "$source"/systemd/leasehold.service.d.examples/*.conf; do
  mkdir -p "$work/unit/leasehold.service.d"
  cp "$source/systemd/leasehold.service" "$work/unit/"
  cp "$file" "$work/unit/leasehold.service.d/drop-in.conf"
  check "exposure with ${file##*/} is at most 2.0" exposure "$work/unit/leasehold.service"
done
check "make install DESTDIR= PREFIX=/usr, for a package, and uninstall" packaged
check "make install" install_it
check "systemd finds no fault in the units" verify leasehold.service leasehold@n1.service
check "the user leasehold exists and cannot log in" user_exists
check "a start without a config fails, at once and for good" start_refused
single_node
cluster
slow_network
check "power-off stops all three nodes cleanly" clean_off
check "the next boot starts them, after the network is up" order
check "the data is still there" data_there
check "make uninstall stops the nodes and removes what was installed" uninstalled
check "make uninstall leaves data, config and user" data_kept
check "the container powers off" power_off
[[ -z ${KEEP_LOG:-} ]] || journalctl -D "$root/var/log/journal" --no-pager >"$KEEP_LOG" 2>/dev/null

echo "1..$number"
if ((failed > 0)); then
  echo "# $failed of $number failed"
  exit 1
fi
echo "# $((number - skipped)) of $number hold, $skipped not run"
