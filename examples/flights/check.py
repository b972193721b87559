#!/usr/bin/env python3
"""Compares what handlers wrote with the flights that were published: every row handled once, and per key in order.

check.py FLIGHTS RUNNING [--file DIR] [--allow-repeats]

FLIGHTS was published once, with key field "origin" and id field "id". RUNNING holds the files of running.py: a chain of
hashes per key, in which one row lost, doubled or out of order makes every later line wrong. DIR holds, per node, a
directory with the lines of the `file` handler: which row was handled, by which node and under which epoch.
--allow-repeats accepts rows that the `file` handler got again under a newer epoch: after a node was killed, calls
repeat from the last checkpoint.

Exit code 0: all claims hold. 1: they do not, and the first differences are printed. 2: the files cannot be judged.
"""
import argparse, base64, bisect, collections, hashlib, json, pathlib, sys

SHOWN = 5  # Differences of a claim that are printed.


class Unreadable(Exception):
    """Input or output that cannot be judged."""


def lines(name):
    """Yields (place, text, JSON object) of each line that is not empty."""
    try:
        with open(name, encoding="utf-8-sig", newline="\n") as file:
            for n, line in enumerate(file, 1):
                if text := line.rstrip("\r\n"):
                    value = json.loads(text)
                    if not isinstance(value, dict):
                        raise Unreadable(f"{name}:{n}: not a JSON object")
                    yield f"{name}:{n}", text, value
    except (OSError, ValueError) as e:
        raise Unreadable(f"{name}: {e}") from e


def files(directory, pattern):
    if not pathlib.Path(directory).is_dir():
        raise Unreadable(f"{directory}: not a directory")
    return sorted(pathlib.Path(directory).glob(pattern))


class Input:
    def __init__(self, name):
        self.rows, self.by_id, self.by_key = [], {}, collections.defaultdict(list)
        for place, text, flight in lines(name):
            if "id" not in flight or "origin" not in flight:
                raise Unreadable(f"{place}: no id or no origin")
            if flight["id"] in self.by_id:
                raise Unreadable(f"{place}: duplicate id {flight['id']!r}")
            self.by_id[flight["id"]] = len(self.rows)
            self.by_key[flight["origin"]].append(len(self.rows))
            self.rows.append((flight["id"], flight["origin"], flight.get("delay", 0), text))
        if not self.rows:
            raise Unreadable(f"{name}: no rows")


class Report:
    def __init__(self):
        self.failed = False

    def claim(self, handler, text, detail, against):
        self.failed |= bool(against)
        print(f"{'✗' if against else '✓'} {handler:<12} {text:<44} {detail}")
        for difference in against[:SHOWN]:
            print(f"  ✗ {handler}: {text}: {difference}")
        if len(against) > SHOWN:
            print(f"  ✗ {handler}: {text}: and {len(against) - SHOWN} more")


def check_running(report, flights, directory):
    want = {key: (0, 0, "") for key in flights.by_key}  # Key → count, total delay and chain after the rows so far.
    last, total, incomplete, disorder, wrong = {}, 0, [], [], []
    for name in files(directory, "*.ndjson"):
        seq = epoch = 0
        for place, _, m in lines(name):
            total += 1
            if m["seq"] <= seq or m["epoch"] < epoch:
                disorder.append(f"{place}: sequence {m['seq']} of epoch {m['epoch']} comes after {seq} of {epoch}")
            seq, epoch, key = m["seq"], m["epoch"], m["key"]
            last[key] = m
            rows, count = flights.by_key.get(key, ()), want.get(key, (0,))[0]
            if count >= len(rows):
                wrong.append(f"{place}: key {key} has only {len(rows)} rows")
                continue
            want[key] = add(want[key], flights.rows[rows[count]])
            if not same(m, want[key]):
                wrong.append(f"{place}: key {key}: got {brief(m)}, want {want[key]}")
    for key, rows in sorted(flights.by_key.items()):
        final = (0, 0, "")
        for i in rows:
            final = add(final, flights.rows[i])
        got = last.get(key, {"count": 0, "total_delay": 0, "chain": ""})
        if want[key][0] != len(rows) or got["count"] != len(rows):
            incomplete.append(f"key {key}: {want[key][0]} lines and a count of {got['count']} for {len(rows)} rows")
        elif got["chain"] != final[2]:
            wrong.append(f"key {key} ends with {brief(got)}, want {final}")
    report.claim("running.py", "every row was handled", f"{total} lines for {len(flights.rows)} rows", incomplete)
    report.claim("running.py", "one row after the other, none twice", f"{total} lines", disorder)
    report.claim("running.py", "chain, count and total follow from the input", f"{len(want)} keys", wrong)


def add(state, row):
    count, total, chain = state
    return count + 1, total + row[2], hashlib.sha256((chain + row[3]).encode()).hexdigest()


def brief(m):
    return m["count"], m["total_delay"], m["chain"]


def same(m, state):
    return m["count"] == state[0] and abs(m["total_delay"] - state[1]) <= 1e-6 and m["chain"] == state[2]


class FileCheck:
    def __init__(self, flights, allow_repeats):
        self.flights, self.allow_repeats = flights, allow_repeats
        self.handled, self.next, self.repeats = set(), collections.Counter(), 0
        self.doubled, self.foreign, self.disorder, self.overtaken = [], [], [], []

    def partition(self, calls):
        """Goes through a partition's calls in order: an epoch has one owner, whose file is in order."""
        last, highest = None, 0
        for place, m in sorted(calls, key=lambda c: (c[1]["epoch"], c[1]["node"])):  # sorted is stable
            if last and m["epoch"] == last["epoch"]:
                if m["node"] != last["node"]:
                    owners = f"two owners, {last['node']} and {m['node']}"
                    self.disorder.append(f"{place}: epoch {m['epoch']} of partition {m['partition']} has {owners}")
                if m["seq"] <= last["seq"]:
                    self.disorder.append(f"{place}: sequence {m['seq']} comes after {last['seq']}")
            self.call(place, m, m["seq"] <= highest)
            last, highest = m, max(highest, m["seq"])

    def call(self, place, m, behind):
        """Judges one line. behind: the partition had passed its sequence before."""
        i = self.row(m)
        if i is None:
            self.foreign.append(f"{place}: not a row of the input under key {m['key']}")
        elif i in self.handled and self.allow_repeats and behind:
            self.repeats += 1
        elif i in self.handled:
            self.doubled.append(f"{place}: row {i + 1} was handled before")
        else:
            self.handled.add(i)
            rows = self.flights.by_key[m["key"]]
            at, want = bisect.bisect_left(rows, i), self.next[m["key"]]
            if at != want:
                self.overtaken.append(f"{place}: key {m['key']} continues with its row {at + 1}, want {want + 1}")
            self.next[m["key"]] = at + 1  # One row out of place is one difference, not one for each that follows.

    def row(self, m):
        """Returns the index of the row that a line carries, unchanged and under its own key."""
        try:
            text = m["data"] if "data" in m else base64.b64decode(m["data_b64"]).decode()
            i = self.flights.by_id[json.loads(text)["id"]]
        except (KeyError, TypeError, ValueError):
            return None
        return i if self.flights.rows[i][1] == m["key"] and self.flights.rows[i][3] == text else None


def check_file(report, flights, directory, allow_repeats):
    partitions, nodes, total = collections.defaultdict(list), set(), 0
    for name in files(directory, "*/*.ndjson"):
        for place, _, m in lines(name):
            total += 1
            nodes.add(m["node"])
            partitions[m["partition"]].append((place, m))
    c = FileCheck(flights, allow_repeats)
    for _, calls in sorted(partitions.items()):
        c.partition(calls)
    missing = [f"row {i + 1} (id {r[0]}, key {r[1]})" for i, r in enumerate(flights.rows) if i not in c.handled]
    rows, handler = len(flights.rows), "file handler"
    repeats = f"{total} lines, {c.repeats} repeats under a newer epoch"
    owners = f"{len(partitions)} partitions, {len(nodes)} nodes"
    report.claim(handler, "every row was handled", f"{rows - len(missing)} of {rows} rows", missing)
    report.claim(handler, "no row was handled twice", repeats, c.doubled)
    report.claim(handler, "no line is foreign or changed", f"{total} lines", c.foreign)
    report.claim(handler, "one owner per epoch, sequences grow", owners, c.disorder)
    report.claim(handler, "each key in the order of the input", f"{len(flights.by_key)} keys", c.overtaken)


def main():
    parser = argparse.ArgumentParser(description="Compares what the demo's handlers wrote with the published flights.")
    parser.add_argument("flights", help="NDJSON file that was published")
    parser.add_argument("running", help="directory of running.py")
    parser.add_argument("--file", metavar="DIR", help="directory that holds, per node, a directory of the file handler")
    parser.add_argument("--allow-repeats", action="store_true", help="accept rows that came again under a newer epoch")
    args = parser.parse_args()
    report = Report()
    try:
        flights = Input(args.flights)
        check_running(report, flights, args.running)
        if args.file:
            check_file(report, flights, args.file, args.allow_repeats)
    except Unreadable as e:
        parser.exit(2, f"check.py: {e}\n")
    except (KeyError, TypeError) as e:
        parser.exit(2, f"check.py: not a line of the expected handler: {e!r}\n")
    if report.failed:
        sys.exit(1)
    rows, keys = len(flights.rows), len(flights.by_key)
    print(f"All {rows} rows of {keys} keys were handled once by each handler, each key in order.")


main()
