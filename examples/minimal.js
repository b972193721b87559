#!/usr/bin/env node
// The smallest useful handler in Node: docs/handlers.md explains each line that it gets and gives.
const readline = require("node:readline");

async function handle(m) {
  console.error(m.key, m.data); // stderr is the log
  return { status: "ok" };
}

async function main() {
  let token; // of init; only a line with it is an answer, so a payload that is printed is none
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
    token ??= m.token;
    process.stdout.write(JSON.stringify({ ...out, token }) + "\n");
  }
}

main();
