// Handler of the systemd test: writes down each call.
const fs = require("fs");
const out = process.env.OUT;
fs.mkdirSync(out, { recursive: true });
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const m = JSON.parse(line);
  if (m.type !== "message") return say({ type: "ack", id: m.id });
  fs.appendFileSync(out + "/calls.js", m.id + "\n");
  say({ type: "result", id: m.id, status: "ok" });
});
