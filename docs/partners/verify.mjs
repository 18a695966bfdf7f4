// Receives orderflow's webhooks: verifies each, takes each event once, and tells newer from older.
//
//     npm install standardwebhooks
//     WEBHOOK_SECRET=whsec_… node verify.mjs 8000

import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const hook = new Webhook(process.env.WEBHOOK_SECRET);

// In your system these are rows, written in the transaction that does the work: a unique webhook-id, and per order (or
// job) the highest sequence seen.
const taken = new Set();
const newest = new Map();

// What an event is to us: "new", a "repeat" of one that we have, or "older" than what we know of its order.
function take(event, sequence) {
  const about = event.data.orderId ?? event.data.jobId;
  if (taken.has(event.id)) return "repeat";
  taken.add(event.id);
  if (sequence < (newest.get(about) ?? -1)) return "older";
  newest.set(about, sequence);
  return "new";
}

const server = createServer(async (request, response) => {
  // The raw bytes are signed: verify before anything parses them.
  const parts = [];
  for await (const part of request) parts.push(part);
  let event;
  try {
    event = hook.verify(Buffer.concat(parts), request.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return response.writeHead(401).end();
  }
  const verdict = take(event, Number(request.headers["x-webhook-sequence"]));
  console.log(JSON.stringify({ id: event.id, event: event.event, verdict }));
  response.writeHead(204).end(); // for repeats too: anything else is tried again
});

server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});
