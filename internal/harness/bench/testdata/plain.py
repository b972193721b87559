#!/usr/bin/env python3
"""A handler that does nothing, for measuring: examples/minimal.py without its line of log. It has lines wait in its
pipe (parallel), asks for batches if its config has batch = true, and writes down when it answered each call if that has stamps = "FILE" (see ../stamp)."""
import json, sys, time

stamps = None
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "init" and m["config"].get("stamps"):
        stamps = open(m["config"]["stamps"], "a", buffering=1)
    calls = {"message": [m], "batch": m.get("messages")}.get(m["type"])
    if calls:
        out = {"type": "result", "id": m["id"], "status": "ok"}
    else:
        out = {"type": "ack", "id": m["id"], "wants": ["parallel"] + (["batch"] if m.get("config", {}).get("batch") else [])}
    now = time.monotonic_ns()
    print(json.dumps(out), flush=True)
    if calls and stamps:
        stamps.write(f"{m['partition']} {calls[0]['seq']} {calls[-1]['seq']} {now}\n")
