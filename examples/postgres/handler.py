#!/usr/bin/env python3
"""Each message's effect in PostgreSQL exactly once, and none by an owner that has lost its partition. See README.md.

An owner of a partition first writes down its epoch. From then on every message is one transaction: a step forward in
progress, which only the latest owner can make and only once, and the effect. Put yours into effect()."""
import json, sys
import psycopg2

# A process that is frozen in a transaction keeps its locks, and the next owner waits for them. So the server ends a
# session that says nothing for so long within a transaction. This must stay below start_timeout and timeout.
SETTINGS = "-c idle_in_transaction_session_timeout=5s"

CLAIM = """INSERT INTO progress AS p VALUES (%(group)s, %(partition)s, %(epoch)s, 0)
    ON CONFLICT (grp, partition) DO UPDATE SET epoch = excluded.epoch WHERE p.epoch < excluded.epoch"""
STEP = """UPDATE progress SET seq = %(seq)s
    WHERE grp = %(group)s AND partition = %(partition)s AND epoch = %(epoch)s AND seq < %(seq)s"""
# A message of a parked key that a person has released comes after others of its partition: what counts is whether its own
# effect is there. FOR UPDATE has other owners wait, as STEP does.
RELEASED = """SELECT 1 FROM progress WHERE grp = %(group)s AND partition = %(partition)s AND epoch = %(epoch)s
    AND NOT EXISTS (SELECT FROM ledger WHERE partition = %(partition)s AND seq = %(seq)s) FOR UPDATE"""
OWNER = "SELECT epoch FROM progress WHERE grp = %(group)s AND partition = %(partition)s"


def effect(cursor, m, order):
    cursor.execute("INSERT INTO ledger (account, amount, message, partition, epoch, seq) VALUES (%s, %s, %s, %s, %s, %s)",
                   (m["key"], order["amount"], m["idempotency_key"], m["partition"], m["epoch"], m["seq"]))
    cursor.execute("INSERT INTO balance AS b VALUES (%s, %s) ON CONFLICT (account) DO UPDATE SET amount = b.amount + excluded.amount",
                   (m["key"], order["amount"]))


class Store:
    def __init__(self, dsn):
        self.dsn, self.db, self.claimed = dsn, None, {}

    def claim(self, m):
        """Once for each epoch: fences every owner before this one."""
        if self.db is None:
            self.db = psycopg2.connect(self.dsn, options=SETTINGS)
        if self.claimed.get(m["partition"]) != m["epoch"]:
            with self.db, self.db.cursor() as cursor:
                cursor.execute(CLAIM, m)
            self.claimed[m["partition"]] = m["epoch"]

    def apply(self, m, order):
        with self.db, self.db.cursor() as cursor:  # commits, or rolls back on an exception
            cursor.execute(RELEASED if m.get("released") else STEP, m)
            if cursor.rowcount == 1:
                effect(cursor, m, order)
                return {"status": "ok"}
            cursor.execute(OWNER, m)
            epoch = cursor.fetchone()[0]
        if epoch != m["epoch"]:
            return {"status": "unavailable", "reason": f"epoch {m['epoch']} is over, {epoch} has begun"}
        return {"status": "ok"}  # a repeat: done before

    def lost(self, error):
        """The connection is of no use any more. What it was doing is rolled back, or was committed: a repeat will tell."""
        if self.db is not None:
            self.db.close()
        self.db = None
        return {"status": "unavailable", "reason": f"database: {error}".strip()}


def handle(store, m):
    try:
        order = json.loads(m["data"])
        order["amount"] = int(order["amount"])
    except (KeyError, TypeError, ValueError) as e:
        return {"status": "reject", "reason": f"no order: {e!r}"}
    try:
        store.claim(m)
        return store.apply(m, order)
    except (psycopg2.DataError, psycopg2.IntegrityError) as e:  # the message's own fault
        return {"status": "reject", "reason": str(e).strip()}
    except psycopg2.Error as e:  # an outage: no message is to blame
        return store.lost(e)


store, group, token = None, "", None
for line in sys.stdin:
    m, out = json.loads(line), {"type": "ack"}
    if m["type"] == "init":
        store, group, token = Store(m["config"]["dsn"]), m["group"], m.get("token")
    elif m["type"] == "assign":
        try:
            store.claim({**m, "group": group})
        except psycopg2.Error as e:  # then the first message tries again
            print("WARN", store.lost(e)["reason"], file=sys.stderr)
    elif m["type"] == "message":
        out = {"type": "result", **handle(store, m)}
    elif m["type"] not in ("revoke", "stop"):
        continue
    print(json.dumps({**out, "id": m["id"], "token": token}), flush=True)
