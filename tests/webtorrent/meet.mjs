// Clients of npm's bittorrent-tracker announce to the tracker that the first argument names, scrape it, and exchange
// offers and answers through it. Prints one event of JSON at the end; what differs from what is expected ends it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { register } from "node:module";

const fake = new URL("fake-webrtc.mjs", import.meta.url).href;
register(`data:text/javascript,${encodeURIComponent(`export const resolve = (name, context, next) =>
  name === "webrtc-polyfill" ? { url: ${JSON.stringify(fake)}, shortCircuit: true } : next(name, context);`)}`);
const { Client } = await import("bittorrent-tracker");

const url = process.argv[2];
const hashes = ["ff80e900017f22415cc3a90a0d09fefdfcfb2f5c", "00".repeat(20)];
const id = (n) => Buffer.from(`-WW0201-\xff\x80\x00${"x".repeat(8)}${n}`, "latin1");
const clients = [];
setTimeout(() => { console.error("not done in 40 s"); process.exit(1); }, 40_000).unref();

/** Clients of one URL share a socket. */
function client(n, infoHash, socket) {
  const made = new Client({ infoHash, peerId: id(n), announce: [`${url}?${socket}`], port: 6881, wrtc: {} });
  for (const bad of ["error", "warning"]) made.on(bad, (error) => { console.error(n, bad, error); process.exit(1); });
  clients.push(made);
  return made;
}

async function told(client, act) {
  const update = once(client, "update");
  act();
  const [{ complete, incomplete }] = await update;
  return [complete, incomplete];
}

const scrape = (infoHash) => new Promise((resolve, reject) =>
  Client.scrape({ infoHash, announce: url, wrtc: {} }, (error, data) => (error ? reject(error) : resolve(data))));

/** Two in one swarm: the second finds the first there, and each has what the other has described. */
async function pair(one, two, ids) {
  assert.deepEqual(await told(one, () => one.start({ left: 0 })), [1, 0]);
  const peers = Promise.all([once(one, "peer"), once(two, "peer")]);
  assert.deepEqual(await told(two, () => two.start({ left: 5 })), [1, 1]);
  const [[answering], [offering]] = await peers;
  assert.deepEqual([offering.id, answering.id], ids.map((n) => id(n).toString("hex")));
  assert.equal(offering.initiator, true);
  assert.deepEqual({ ...answering._pc.remoteDescription }, { ...offering._pc.localDescription });
  assert.deepEqual({ ...offering._pc.remoteDescription }, { ...answering._pc.localDescription });
  assert.equal(offering._pc.remoteDescription.type, "answer");
}

const [one, two] = [client(1, hashes[0], "a"), client(2, hashes[0], "b")];
await pair(one, two, [1, 2]);
const [three, four] = [client(3, hashes[1], "a"), client(4, hashes[1], "c")];
await pair(three, four, [3, 4]);

const alone = await scrape(hashes[0]);
assert.deepEqual([alone.infoHash, alone.complete, alone.incomplete, alone.downloaded], [hashes[0], 1, 1, 0]);
assert.deepEqual(await told(two, () => two.complete({ left: 0 })), [2, 0]);
const both = await scrape(hashes);
assert.deepEqual([both[hashes[0]].complete, both[hashes[0]].downloaded], [2, 1]);
assert.deepEqual([both[hashes[1]].complete, both[hashes[1]].incomplete], [1, 1]);
assert.deepEqual(await told(one, () => one.stop()), [1, 0]);

await Promise.all(clients.map((client) => new Promise((resolve) => client.destroy(resolve))));
console.log(JSON.stringify({ event: "met", pairs: 2 }));
process.exit(0);
