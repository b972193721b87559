#!/usr/bin/env python3
"""A service for a group of kind "http": checks the signature, keeps each message once, refuses older owners with 503
(unavailable: the message is fine, the caller is not). Usage: webhook.py PORT SECRET_FILE DATABASE. The signature
(standardwebhooks.com) covers id, time and body; what keeps the headers safe on the way is TLS."""
import base64, hashlib, hmac, http.server, sqlite3, sys, threading, time


def signed(h, body):
    mac = hmac.new(secret, f"{h['webhook-id']}.{h['webhook-timestamp']}.".encode() + body, hashlib.sha256)
    good = b"v1," + base64.b64encode(mac.digest())  # one of several while a secret is being changed
    fresh = abs(time.time() - float(h["webhook-timestamp"] or 0)) < 300
    return fresh and any(hmac.compare_digest(good, s.encode()) for s in (h["webhook-signature"] or "").split())

def apply(h, body):
    group, partition, epoch = h["Leasehold-Group"], int(h["Leasehold-Partition"]), int(h["Leasehold-Epoch"])
    with lock, db:  # commits, or rolls back on an exception
        row = db.execute("SELECT epoch FROM owners WHERE grp = ? AND partition = ?", (group, partition)).fetchone()
        if row and epoch < row[0]:
            return 503, f"epoch {epoch} is over, {row[0]} has begun"
        db.execute("REPLACE INTO owners VALUES(?, ?, ?)", (group, partition, epoch))
        db.execute("INSERT OR IGNORE INTO bodies VALUES(?, ?)", (h["webhook-id"], body))  # a repeat changes nothing
    return 200, "ok"

class Service(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1  # keeps the connection, answers in one packet

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code, text = apply(self.headers, body) if signed(self.headers, body) else (401, "wrong signature")
        self.send_response(code)
        self.send_header("Content-Length", len(text))
        self.end_headers()
        self.wfile.write(text.encode())

secret = base64.b64decode(open(sys.argv[2]).read().strip().removeprefix("whsec_"))
db, lock = sqlite3.connect(sys.argv[3], check_same_thread=False), threading.Lock()  # one process, one writer
db.executescript("""CREATE TABLE IF NOT EXISTS bodies(id TEXT PRIMARY KEY, body BLOB);
CREATE TABLE IF NOT EXISTS owners(grp TEXT, partition INTEGER, epoch INTEGER, PRIMARY KEY(grp, partition))""")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
