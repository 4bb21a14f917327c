// RudderStack's SDK for Node: node rudder_node.mjs URL WRITE_KEY, the calls on stdin, one JSON object a line.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const RudderAnalytics = createRequire(import.meta.url)("@rudderstack/rudder-sdk-node");
const [dataPlaneUrl, writeKey] = process.argv.slice(2);
const Client = RudderAnalytics.default ?? RudderAnalytics;
const client = new Client(writeKey, { dataPlaneUrl, flushInterval: 100, flushAt: 5, retryCount: 12, gzip: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { type, ...call } = JSON.parse(line);
  client[type](call);
}
await client.flush();
