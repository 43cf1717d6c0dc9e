// Stock Chromium, no client of ours in it: a real site and our own through a bridge that held nothing, and a page of
// a site in a spike. A page is right when it looks as it does from an ordinary web server, but for the few pixels at
// the edges of letters that Chromium draws differently from one time to the next.
// Screenshots stay in the folder that SWARM_SHOTS names.
import { spawn, execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { readFileSync, mkdtempSync, rmSync, mkdirSync, writeFileSync, readdirSync, existsSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const top = path.resolve(import.meta.dirname, "../..");
const bin = (name) => path.join(top, "target/release", name);
const work = mkdtempSync(path.join(tmpdir(), "swarm-browser-"));
const shots = process.env.SWARM_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });
const children = [];
let failed = 0;
let passed = 0;

const types = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml", png: "image/png",
  jpg: "image/jpeg", webp: "image/webp", woff2: "font/woff2", mp4: "video/mp4", webm: "video/webm", pdf: "application/pdf" };

/** An ordinary web server over a folder: what the page should look like. */
function plainServer(root) {
  const server = createServer((request, response) => {
    let file = path.join(root, decodeURIComponent(new URL(request.url, "http://x").pathname));
    if (existsSync(file) && statSync(file).isDirectory()) file = path.join(file, "index.html");
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[file.split(".").pop()] ?? "application/octet-stream" });
    response.end(readFileSync(file));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve({ server, port: server.address().port })));
}

/** Starts a binary and resolves with its first event of this name; the child dies with this process. */
function start(name, args, event = "listening") {
  const child = spawn(bin(name), args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "info" } });
  children.push(child);
  let log = "";
  child.stderr.on("data", (data) => (log += data));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${name}: no ${event} in 60 s\n${log}`)), 60_000);
    createInterface(child.stdout).on("line", (line) => {
      try {
        const told = JSON.parse(line);
        child.emit("told", told);
        if (told.event === event) { clearTimeout(timer); resolve({ child, told, log: () => log }); }
      } catch { /* a line for people */ }
    });
    child.on("exit", (code) => reject(new Error(`${name} ended with ${code}\n${log}`)));
  });
}

async function test(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.stack}`);
  }
}
const assert = (holds, what) => { if (!holds) throw new Error(what); };

/** Opens a page in a fresh context; returns its screenshot, what failed, and where its parts came from. */
async function visit(browser, url, viewport = { width: 1280, height: 900 }) {
  const context = await browser.newContext({ viewport, reducedMotion: "reduce" });
  const page = await context.newPage();
  const bad = [];
  const hosts = new Map();
  page.on("requestfailed", (request) => bad.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    const host = new URL(response.url()).host;
    hosts.set(host, (hosts.get(host) ?? 0) + 1);
    // Browsers ask for this one whether the page names it or not.
    if (response.status() >= 400 && !response.url().endsWith("/favicon.ico")) bad.push(`${response.url()}: ${response.status()}`);
  });
  page.on("pageerror", (error) => bad.push(`script: ${error.message}`));
  page.on("console", (message) => { if (message.type() === "error" && !message.location().url.endsWith("/favicon.ico")) bad.push(`console: ${message.text()}`); });
  await page.goto(url, { waitUntil: "networkidle", timeout: 60_000 });
  await page.evaluate(() => document.fonts.ready);
  // Pictures that wait until they are near are part of the page too.
  await page.evaluate(async () => {
    const images = [...document.images].filter((image) => image.hasAttribute("src"));
    for (const image of images) image.loading = "eager";
    await Promise.all(images.map((image) => image.decode().catch(() => {})));
  });
  const shot = await page.screenshot({ animations: "disabled" });
  const facts = await page.evaluate(() => ({
    title: document.title,
    text: document.body.innerText.length,
    images: [...document.images].every((image) => !image.hasAttribute("src") || image.naturalWidth > 0),
    integrity: [...document.querySelectorAll("script[integrity], link[integrity]")].length,
    banner: document.querySelector("[data-spikeswarm-banner]")?.innerText ?? "",
  }));
  return { context, page, shot, bad, hosts, facts };
}

/** Publishes a folder, seeds it, and starts a bridge that holds nothing of it. */
async function carried(host, root, more = []) {
  const out = path.join(work, host, "published");
  const args = ["publish", "--json", "--site", `http://${host}`, "--root", root, "--out", out, "--keys", path.join(work, host, "keys")];
  const told = execFileSync(bin("swarm-peer"), args, { encoding: "utf8" }).split("\n").filter(Boolean).map((line) => JSON.parse(line)).find((event) => event.event === "published");
  const seed = await start("swarm-peer", ["seed", out, "--listen", "127.0.0.1:0", "--json"]);
  const bridge = await start("webseed-bridge", ["run", "--json", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--domain", "localhost",
    "--site", host, "--site-key", `${host}=${told.root_key}`, "--record", `${host}=${path.join(out, "manifest")}`,
    "--store", path.join(work, host, "store"), "--peer", seed.told.peer, ...more]);
  const label = host.replaceAll("-", "--").replaceAll(".", "-");
  return `http://${label}.localhost:${bridge.told.http.split(":").pop()}`;
}

/** The share of pixels in which two screenshots clearly differ, 0 to 1; 1 if their sizes do. */
async function difference(browser, one, other) {
  const page = await browser.newPage();
  const share = await page.evaluate(async (shots) => {
    const [one, other] = await Promise.all(shots.map(async (shot) => {
      const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${shot}`)).blob());
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = canvas.getContext("2d");
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, bitmap.width, bitmap.height);
    }));
    if (one.width !== other.width || one.height !== other.height) return 1;
    let differing = 0;
    for (let at = 0; at < one.data.length; at += 4) {
      const apart = Math.max(...[0, 1, 2].map((channel) => Math.abs(one.data[at + channel] - other.data[at + channel])));
      if (apart > 32) differing += 1;
    }
    return differing / (one.width * one.height);
  }, [one, other].map((shot) => shot.toString("base64")));
  await page.close();
  return share;
}

async function sameAsPlain(browser, base, plain, target, viewport) {
  const through = await visit(browser, base + target, viewport);
  const direct = await visit(browser, plain + target, viewport);
  const name = `${new URL(base).hostname.split(".")[0]}${target.replaceAll("/", "_")}${viewport ? `_${viewport.width}` : ""}`;
  if (shots) writeFileSync(path.join(shots, `${name}.png`), through.shot);
  const result = { through, direct };
  assert(through.bad.length === 0, `${target}: ${through.bad.join("; ")}`);
  assert(through.facts.images, `${target}: a picture is missing`);
  assert(through.facts.title === direct.facts.title && through.facts.text === direct.facts.text, `${target}: other text than from a plain server`);
  const share = through.shot.equals(direct.shot) ? 0 : await difference(browser, through.shot, direct.shot);
  if (share > 0) console.log(`     ${target}: ${(share * 100).toFixed(4)} % of the pixels differ clearly`);
  if (share > 0.001) {
    const kept = shots ?? tmpdir();
    writeFileSync(path.join(kept, `${name}.bridge.png`), through.shot);
    writeFileSync(path.join(kept, `${name}.plain.png`), direct.shot);
    throw new Error(`${target}: looks different; see ${kept}/${name}.*.png`);
  }
  await through.context.close();
  await direct.context.close();
  return result;
}

/** A gate with its spike forced by load, and two volunteers. */
async function spike(root) {
  const origin = await plainServer(root);
  const config = path.join(work, "gate.toml");
  writeFileSync(config, readFileSync(path.join(top, "tests/quick-spike.toml")));
  const gate = await start("spike-gate", ["run", "--json", "--config", config, "--origin", `http://127.0.0.1:${origin.port}`, "--root", root,
    "--site", "http://spike.test", "--listen", "127.0.0.1:0", "--tracker-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0",
    "--bridge-listen", "off", "--plan-rate", "4Mbit", "--state", path.join(work, "gate")]);
  const states = [];
  gate.child.on("told", (told) => { if (told.event === "state") states.push(told.to); });
  for (const number of [1, 2]) {
    await start("webseed-bridge", ["run", "--json", "--volunteer", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--domain", "localhost",
      "--tracker", gate.told.tracker, "--site-key", `spike.test=${gate.told.root_key}`, "--store", path.join(work, `volunteer${number}`)]);
  }
  return { gate, origin, states, base: `http://${gate.told.http}` };
}

/** Asks for these until `until` holds; the wave. */
async function wave(base, targets, until, patience = 60_000) {
  const end = Date.now() + patience;
  while (!until()) {
    assert(Date.now() < end, "the wave changed nothing in time");
    await Promise.all(targets.map((target) => fetch(base + target, { redirect: "manual" }).then((reply) => reply.arrayBuffer())));
  }
}

try {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  console.log(`Chromium ${browser.version()}`);

  const docs = readdirSync("/usr/share/doc").filter((name) => name.startsWith("python3.")).map((name) => `/usr/share/doc/${name}/html`).find((html) => existsSync(`${html}/index.html`));
  assert(docs, "the Python documentation is missing: apt-get install python3-doc");
  const docsRoot = path.join(work, "docs");
  execFileSync("cp", ["-rL", docs, docsRoot]);
  await test("a real site of 500 pages looks the same through a bridge", async () => {
    const plain = await plainServer(docsRoot);
    const base = await carried("docs.test", docsRoot);
    for (const target of ["/", "/library/asyncio.html", "/tutorial/introduction.html", "/library/turtle.html", "/whatsnew/3.11.html", "/genindex-all.html"]) {
      await sameAsPlain(browser, base, `http://127.0.0.1:${plain.port}`, target);
    }
    plain.server.close();
  });

  const demoSite = path.join(top, "crates/spike-gate/demo-site");
  const pages = readdirSync(demoSite, { recursive: true }).filter((name) => name.endsWith(".html")).map((name) => `/${name}`);
  await test("our own site looks the same through a bridge, on a desk and in the hand", async () => {
    const plain = await plainServer(demoSite);
    const base = await carried("demo.test", demoSite);
    for (const target of pages) await sameAsPlain(browser, base, `http://127.0.0.1:${plain.port}`, target);
    await sameAsPlain(browser, base, `http://127.0.0.1:${plain.port}`, "/index.html", { width: 390, height: 844 });
    plain.server.close();
  });

  await test("a page of a site in a spike comes from the site, its weight from volunteers", async () => {
    const { gate, origin, states, base } = await spike(demoSite);
    const calm = await visit(browser, `${base}/index.html`);
    assert(calm.bad.length === 0, calm.bad.join("; "));
    assert([...calm.hosts.keys()].length === 1, `in calm everything comes from the site: ${[...calm.hosts.keys()]}`);
    assert(calm.facts.banner === "", "no banner in calm");
    await calm.context.close();
    await wave(base, [...pages, "/index.html"], () => states.includes("spike"));
    // Volunteers are cold: what they hold grows; wait for a page all of whose weight has left.
    let spiky;
    const end = Date.now() + 60_000;
    for (;;) {
      spiky = await visit(browser, `${base}/index.html`);
      if (spiky.facts.integrity > 0 && spiky.hosts.size > 1) break;
      assert(Date.now() < end, `nothing left the site: ${gate.log().slice(-2000)}`);
      await spiky.context.close();
      await wave(base, pages, () => true);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    if (shots) writeFileSync(path.join(shots, "spike.png"), spiky.shot);
    assert(spiky.bad.length === 0, spiky.bad.join("; "));
    assert(spiky.facts.images, "a picture is missing");
    assert(spiky.facts.banner.length > 10, "the banner invites nobody");
    const phone = await visit(browser, `${base}/index.html`, { width: 390, height: 844 });
    if (shots) writeFileSync(path.join(shots, "spike-phone.png"), phone.shot);
    assert(phone.bad.length === 0, phone.bad.join("; "));
    console.log(`     from ${[...spiky.hosts].map(([host, count]) => `${host} ${count}`).join(", ")}; ${spiky.facts.integrity} tags with integrity`);
    origin.server.close();
  });
  await browser.close();
} catch (error) {
  failed += 1;
  console.log(`FAIL ${error.stack}`);
} finally {
  for (const child of children) child.kill("SIGKILL");
  rmSync(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
