// Segment's SDK for Node: node segment_node.mjs URL WRITE_KEY, the calls on stdin, one JSON object a line.
import { createInterface } from "node:readline";
import { Analytics } from "@segment/analytics-node";

const [host, writeKey] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, maxRetries: 12, flushInterval: 100, flushAt: 5, httpRequestTimeout: 5000 });
analytics.on("error", (error) => console.error("segment:", error.code, String(error.reason ?? "")));
for await (const line of createInterface({ input: process.stdin })) {
  const { type, ...call } = JSON.parse(line);
  analytics[type](call);
}
await analytics.closeAndFlush({ timeout: 60_000 });
