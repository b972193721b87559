#!/usr/bin/env python3
"""Running totals per airport, in one file per partition that is at once the result and the memory of this handler.

A line per message holds the key's count, total delay and a chain, sha256(chain before + payload): one row lost, doubled
or out of order, and every later line of the key is wrong. The file takes three precautions that any store can take:
a message it has seen is not counted twice, a torn last line is removed, and a caller whose epoch is older than the
newest line has lost the partition to somebody else and is turned away.
"""
import fcntl, hashlib, json, os, sys


class Partition:
    def __init__(self, name):
        self.file = open(name, "a+b", buffering=0)
        self.read, self.epoch, self.keys = 0, 0, {}

    def catch_up(self):
        """Reads what has been added, also by another node that shares the directory."""
        while block := os.pread(self.file.fileno(), 16 << 20, self.read):
            whole = block[: block.rfind(b"\n") + 1]
            if not whole:
                return self.file.truncate(self.read)
            for line in whole.splitlines():
                last = json.loads(line)
                self.epoch, self.keys[last["key"]] = last["epoch"], last
            self.read += len(whole)

    def handle(self, m):
        try:
            delay = json.loads(m["data"])["delay"] + 0
        except (KeyError, TypeError, ValueError) as e:
            return {"status": "reject", "reason": f"not a flight: {e!r}"}
        if m["epoch"] < self.epoch:  # The message is fine, the caller is not: neither an attempt nor a reject.
            return {"status": "unavailable", "reason": f"epoch {m['epoch']} is older than {self.epoch}"}
        old = self.keys.get(m["key"], {"seq": 0, "count": 0, "total_delay": 0, "chain": ""})
        if m["seq"] > old["seq"]:  # else a repeat: done before
            new = {k: m[k] for k in ("key", "seq", "epoch", "partition", "node")}
            new["count"] = old["count"] + 1
            new["total_delay"] = old["total_delay"] + delay
            new["chain"] = hashlib.sha256((old["chain"] + m["data"]).encode()).hexdigest()
            self.file.write(json.dumps(new).encode() + b"\n")
        return {"status": "ok"}

    def __enter__(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.catch_up()
        return self

    def __exit__(self, *_):
        fcntl.flock(self.file, fcntl.LOCK_UN)


partitions, prefix, token = {}, "", None
for line in sys.stdin:
    m, out = json.loads(line), {"type": "ack"}
    if m["type"] == "init":
        token = m.get("token")
        os.makedirs(m["config"]["dir"], exist_ok=True)
        prefix = os.path.join(m["config"]["dir"], f"{m['topic']}.{m['group']}.")
    elif m["type"] == "assign":
        with Partition(f"{prefix}{m['partition']:05d}.ndjson") as p:
            partitions[m["partition"]] = p
    elif m["type"] == "revoke" and m["partition"] in partitions:
        del partitions[m["partition"]]
    elif m["type"] == "message":
        with partitions[m["partition"]] as p:
            out = {"type": "result"} | p.handle(m)
    print(json.dumps(out | {"id": m["id"], "token": token}), flush=True)
