#!/usr/bin/env python3
"""The smallest useful handler: docs/handlers.md explains each line that it gets and gives."""
import json, sys


def handle(m):
    print(m["key"], m.get("data"), file=sys.stderr)  # stderr is the log
    return "ok"


token = None
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "message":
        out = {"type": "result", "id": m["id"], "status": handle(m)}
    elif m["type"] in ("init", "assign", "revoke", "stop"):
        out = {"type": "ack", "id": m["id"]}
    else:
        continue
    token = m.get("token", token)  # of init; only a line with it is an answer, so a payload that is printed is none
    print(json.dumps({**out, "token": token}), flush=True)
