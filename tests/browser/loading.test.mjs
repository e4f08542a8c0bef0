// What happens while a model is loaded: broken connections, damage, what the browser keeps, and what
// it lacks.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./browser.mjs";
import { compile, PACKAGE, WORK } from "./models.mjs";
import { serve } from "./server.mjs";

const URL = "/models/shapes.splam";

let server;
let browser;
let page;
let manifest;

before(async () => {
  const path = compile("shapes/model", "shapes");
  manifest = JSON.parse(readFileSync(join(path, "manifest.json"), "utf8"));
  server = await serve({ package: PACKAGE, models: WORK });
  browser = await launch();
  page = await openPage(await browser.newContext(), server.url);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** Loads in the page; gives the failure, or the files that were kept. */
function load(options = {}) {
  return page.evaluate(async ([url, own]) => {
    const cachedFiles = new Set();
    const onProgress = (progress) => {
      if (progress.phase === "download" && progress.cached) cachedFiles.add(progress.file);
    };
    const loaded = await caught(() => splamc.Pipeline.from(url, { ...own, onProgress }));
    if (loaded.value === undefined) return loaded;
    globalThis.pipeline = loaded.value;
    return { cachedFiles: [...cachedFiles] };
  }, [URL, options]);
}

const asked = () => server.state.requests.filter(({ path }) => path.startsWith(URL));
const shards = () => asked().filter(({ path }) => path.includes("weights-"));

test("a changed byte is refused by name", async () => {
  const [, shard] = manifest.shards;
  server.state.alter = (path, content) => {
    if (!path.endsWith(manifest.shards[0].file)) return content;
    const changed = Buffer.from(content);
    changed[changed.length >> 1] ^= 1;
    return changed;
  };
  const { code, message } = await load();
  server.state.alter = (_path, content) => content;
  assert.equal(code, "integrity");
  assert.ok(message.startsWith(`${manifest.shards[0].file} is not what manifest.json says`), message);
  assert.ok(shard !== undefined);
});

test("a download that is cut goes on where it ended", async () => {
  const { file, bytes } = manifest.shards[1];
  server.state.requests.length = 0;
  let cuts = 0;
  server.state.cut = (path, start) => {
    if (!path.endsWith(file) || cuts >= 2) return undefined;
    cuts += 1;
    return start + 2_000_000;
  };
  const found = await load();
  server.state.cut = () => undefined;
  assert.ok(found.cachedFiles, found.message);
  const ranges = shards().filter(({ path }) => path.endsWith(file)).map(({ range }) => range);
  assert.equal(ranges.length, 3);
  assert.equal(ranges[0], undefined);
  const starts = ranges.slice(1).map((range) => Number(/^bytes=(\d+)-$/.exec(range)[1]));
  assert.ok(starts[0] > 1_000_000 && starts[1] > starts[0] && starts[1] < bytes, `${starts}`);
  // What arrived before the damage was found is fetched once more only if it was not kept.
  const plans = asked().filter(({ path }) => path.includes("plan-"));
  assert.equal(plans.length, 0, "the plan was kept by the load before");
});

test("a second load asks for the manifest alone", async () => {
  await page.evaluate(() => pipeline.dispose());
  server.state.requests.length = 0;
  const found = await load();
  assert.ok(found.cachedFiles, found.message);
  assert.deepEqual(asked().map(({ path }) => path), [`${URL}/manifest.json`]);
  assert.equal(found.cachedFiles.filter((file) => file.startsWith("weights-")).length, 3);
});

test("models that are kept are listed and removed", async () => {
  const url = `${server.url}models/shapes.splam/manifest.json`;
  const [model] = await page.evaluate(() => splamc.cached());
  assert.equal(model.url, url);
  assert.ok(model.bytes > 8_000_000);
  const names = await page.evaluate(async (own) => {
    await splamc.remove(own);
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("splamc");
    return Array.fromAsync(folder.keys());
  }, url);
  assert.deepEqual(names, []);
});

test("a load that is aborted ends at once", async () => {
  server.state.pause = 50;
  const found = await page.evaluate(async (url) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 300);
    const started = performance.now();
    const failure = await caught(() =>
      splamc.Pipeline.from(url, { signal: controller.signal }),
    );
    return { ...failure, milliseconds: performance.now() - started - 300 };
  }, URL);
  server.state.pause = 0;
  assert.equal(found.name, "AbortError");
  assert.ok(found.milliseconds < 500, `${found.milliseconds} ms`);
});

test("a full store is an error only where files must be kept", async () => {
  const session = await page.context().newCDPSession(page);
  const origin = new globalThis.URL(server.url).origin;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 600_000 });
  const { code, message } = await load({ cache: "required" });
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  assert.equal(code, "quota", message);
});

test("what a GPU lacks is told in numbers, before anything large is fetched", async () => {
  server.state.requests.length = 0;
  const found = await page.evaluate(async (url) => {
    const { manifest } = await splamc.fetchManifest(url);
    manifest.requirements.limits.maxBufferSize = 2 ** 40;
    return splamc.lacks(manifest, await splamc.requestAdapter());
  }, URL);
  assert.equal(found.length, 1);
  assert.equal(found[0].what, "maxBufferSize");
  assert.equal(found[0].wanted, 2 ** 40);
  assert.equal(shards().length, 0);
});

test("a browser without an adapter says so", async () => {
  const without = await launch({ webgpu: false });
  try {
    const own = await openPage(await without.newContext(), server.url);
    const { code, message } = await own.evaluate((url) => caught(() => splamc.Pipeline.from(url)), URL);
    assert.ok(code === "no-adapter" || code === "no-webgpu", `${code}: ${message}`);
    assert.equal(shards().length, 0);
  } finally {
    await without.close();
  }
});
