#!/usr/bin/env python3
"""Many messages in one call: one SQLite transaction, so one sync to the disk, for all of them.

Only a beginning of the batch can succeed. Here it ends at the first reading that is none; what comes behind it is sent
again. A row's key is the message's place, so that a repeat changes nothing, whoever sends it."""
import json, sqlite3, sys


def handle(db, messages):
    done, failed = messages[0]["seq"] - 1, None
    with db:  # commits, or rolls back on an exception
        for m in messages:
            try:
                value = float(json.loads(m["data"])["value"])
            except (KeyError, TypeError, ValueError) as e:
                failed = {"seq": m["seq"], "status": "reject", "reason": f"no reading: {e!r}"}
                break
            db.execute("INSERT OR IGNORE INTO readings VALUES(?, ?, ?, ?)", (m["partition"], m["seq"], m["key"], value))
            done = m["seq"]
    return {"status": "partial", "ok_through": done, "failed": failed} if failed else {"status": "ok"}


db = token = None
for line in sys.stdin:
    m = json.loads(line)
    out = {"type": "ack", "id": m["id"]}
    if m["type"] == "init":
        db = sqlite3.connect(m["config"]["db"], timeout=30)
        db.executescript("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS readings(partition INTEGER, seq INTEGER, key TEXT, value REAL, PRIMARY KEY(partition, seq))")
        out["wants"], token = ["batch"], m.get("token")
    elif m["type"] == "batch":
        out = {"type": "result", "id": m["id"], **handle(db, m["messages"])}
    elif m["type"] == "message":  # a batch of one
        answer = handle(db, [m])
        out = {"type": "result", "id": m["id"], **answer.get("failed", answer)}
    print(json.dumps({**out, "token": token}), flush=True)
