#!/usr/bin/env python3
"""Each message's effect exactly once, and none from an older owner: a SQLite table of totals per key.

The effect and the note of how far its key has come go into one transaction. A message that is noted already is a repeat
after a crash: done. An epoch below the partition's noted one comes from an owner that has lost the partition and has
not noticed, for example because its machine stood still: refused, and nothing is written. Put the same statements into
the transaction of any other store."""
import json, sqlite3, sys

SCHEMA = """
CREATE TABLE IF NOT EXISTS totals(key TEXT PRIMARY KEY, messages INTEGER, bytes INTEGER, seq INTEGER);
CREATE TABLE IF NOT EXISTS owners(grp TEXT, partition INTEGER, epoch INTEGER, PRIMARY KEY(grp, partition));
"""
ADD = """INSERT INTO totals VALUES(?, 1, ?, ?) ON CONFLICT(key) DO UPDATE
SET messages = messages + 1, bytes = bytes + excluded.bytes, seq = excluded.seq WHERE seq < excluded.seq"""


def handle(db, m):
    with db:  # commits, or rolls back on an exception
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT epoch FROM owners WHERE grp = ? AND partition = ?", (m["group"], m["partition"])).fetchone()
        if row and m["epoch"] < row[0]:
            return {"status": "unavailable", "reason": f"epoch {m['epoch']} is over, {row[0]} has begun"}
        db.execute("REPLACE INTO owners VALUES(?, ?, ?)", (m["group"], m["partition"], m["epoch"]))
        db.execute(ADD, (m["key"], len(m.get("data") or m.get("data_b64", "")), m["seq"]))  # a repeat changes nothing
    return {"status": "ok"}


db = token = None
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "init":
        db, token = sqlite3.connect(m["config"]["db"], timeout=30, isolation_level=None), m.get("token")
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)
    if m["type"] == "message":
        print(json.dumps({"type": "result", "id": m["id"], "token": token, **handle(db, m)}), flush=True)
    elif m["type"] in ("init", "assign", "revoke", "stop"):
        print(json.dumps({"type": "ack", "id": m["id"], "token": token}), flush=True)
