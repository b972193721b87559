#!/usr/bin/env python3
"""Each message's effect exactly once, and none from an older owner: a SQLite table of totals per key.

The effect and the note of how far its partition has come go into one transaction. A message that is noted already is a
repeat after a crash: done. An epoch below the noted one comes from an owner that has lost the partition and has not
noticed, for example because its machine stood still: refused, and nothing is written. Put the same two statements into
the transaction of any other store."""
import json, sqlite3, sys

SCHEMA = """
CREATE TABLE IF NOT EXISTS totals(key TEXT PRIMARY KEY, messages INTEGER, bytes INTEGER);
CREATE TABLE IF NOT EXISTS progress(grp TEXT, partition INTEGER, epoch INTEGER, seq INTEGER, PRIMARY KEY(grp, partition));
"""


def handle(db, m):
    with db:  # commits, or rolls back on an exception
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT epoch, seq FROM progress WHERE grp = ? AND partition = ?", (m["group"], m["partition"])).fetchone()
        epoch, seq = row or (0, 0)
        if m["epoch"] < epoch:
            return {"status": "unavailable", "reason": f"epoch {m['epoch']} is over, {epoch} has begun"}
        if m["seq"] > seq:
            size = len(m.get("data") or m.get("data_b64", ""))
            db.execute("INSERT INTO totals VALUES(?, 1, ?) ON CONFLICT(key) DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes", (m["key"], size))
        db.execute("INSERT INTO progress VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq", (m["group"], m["partition"], m["epoch"], max(seq, m["seq"])))
    return {"status": "ok"}


db = None
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "init":
        db = sqlite3.connect(m["config"]["db"], timeout=30, isolation_level=None)
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)
    if m["type"] == "message":
        print(json.dumps({"type": "result", "id": m["id"], **handle(db, m)}), flush=True)
    elif m["type"] in ("init", "assign", "revoke", "stop"):
        print(json.dumps({"type": "ack", "id": m["id"]}), flush=True)
