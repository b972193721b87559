#!/usr/bin/env node
// The smallest useful handler in Node: docs/handlers.md explains each line that it gets and gives.
const readline = require("node:readline");

async function handle(m) {
  console.error(m.key, m.data); // stderr is the log
  return { status: "ok" };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const m = JSON.parse(line);
    let out;
    if (m.type === "message") {
      out = { type: "result", id: m.id, ...(await handle(m)) }; // one after the other: that keeps the order
    } else if (["init", "assign", "revoke", "stop"].includes(m.type)) {
      out = { type: "ack", id: m.id };
    } else {
      continue;
    }
    process.stdout.write(JSON.stringify(out) + "\n");
  }
}

main();
