#!/usr/bin/env python3
"""check.py FLIGHTS DIR: are the files of running.py in DIR what FLIGHTS, published once with key "origin", must give?"""
import hashlib, json, pathlib, sys

want = {}
for row in open(sys.argv[1], encoding="utf-8"):
    flight = json.loads(row)
    count, total, chain = want.get(flight["origin"], (0, 0, ""))
    chain = hashlib.sha256((chain + row.rstrip("\n")).encode()).hexdigest()
    want[flight["origin"]] = (count + 1, total + flight["delay"], chain)

got, rows, faults = {}, 0, 0
for name in sorted(pathlib.Path(sys.argv[2]).glob("*.ndjson")):
    seq = epoch = 0
    for line in name.read_text().splitlines():
        m, rows = json.loads(line), rows + 1
        if m["seq"] <= seq or m["epoch"] < epoch:
            faults += 1
            print(f"{name}: seq {m['seq']} epoch {m['epoch']} comes after seq {seq} epoch {epoch}")
        seq, epoch = m["seq"], m["epoch"]
        got[m["key"]] = (m["count"], m["total_delay"], m["chain"])

for key in sorted(want.keys() | got.keys()):
    if want.get(key) != got.get(key):
        faults += 1
        print(f"{key}: want {want.get(key)}, got {got.get(key)}")
print(f"{rows} rows, {len(got)} keys, {faults} faults")
sys.exit(1 if faults else 0)
