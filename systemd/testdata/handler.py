"""Handler of the systemd test: writes down each call, and at its start what the sandbox let it do."""
import ctypes
import json
import os
import socket
import sys
import time

OUT = os.environ["OUT"]


def write(path):
    with open(path, "w") as f:
        f.write("x")


def libc(name, *args):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args) != 0:
        raise OSError(ctypes.get_errno(), name)


# What a hijacked handler would try. None of it may work.
FORBIDDEN = {
    "become root": lambda: os.setuid(0),
    "write to /etc/leasehold": lambda: write("/etc/leasehold/x"),
    "write to /usr": lambda: write("/usr/local/bin/x"),
    "write to /var/lib": lambda: write("/var/lib/x"),
    "write to /sys": lambda: os.open("/sys/kernel/mm/ksm/run", os.O_WRONLY),
    "write to /proc/sys": lambda: os.open("/proc/sys/kernel/sysrq", os.O_WRONLY),
    "read the secret's file": lambda: open("/etc/leasehold/cluster_secret").read(),
    "read /etc/shadow": lambda: open("/etc/shadow").read(),
    "list /root": lambda: os.listdir("/root/."),
    "see other users' processes": lambda: os.stat("/proc/1/cmdline"),
    "open a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "make a namespace": lambda: libc("unshare", 0x10000000),
    "mount": lambda: libc("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "make a setuid file": lambda: os.chmod(OUT + "/calls.py", 0o4755),
    "read the kernel log": lambda: open("/dev/kmsg").read(1),
}


def works(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False


def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]


def facts():
    write("/tmp/x")
    return {
        "uid": os.getuid(),
        "caps": status("CapEff"),
        "bounding": status("CapBnd"),
        "no_new_privs": status("NoNewPrivs"),
        "memory": os.path.exists("/proc/meminfo"),
        "managed": [v for v in os.environ if v in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY")],
        "tried": len(FORBIDDEN),
        "worked": [name for name, attempt in FORBIDDEN.items() if works(attempt)],
    }


os.makedirs(OUT, exist_ok=True)
calls = open(OUT + "/calls.py", "a", buffering=1)
with open(f"{OUT}/facts.{os.getpid()}", "w") as f:
    json.dump(facts(), f)
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "message":
        if m.get("data", "").startswith('{"slow"'):
            open(OUT + "/slow.begun", "a").write(m["id"] + "\n")
            time.sleep(4)
        calls.write(m["id"] + "\n")
        answer = {"type": "result", "id": m["id"], "status": "ok"}
    else:
        answer = {"type": "ack", "id": m["id"]}
    print(json.dumps(answer), flush=True)
