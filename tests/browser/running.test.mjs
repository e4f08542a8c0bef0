// What happens while pictures are made: aborted runs, many pictures, a GPU that is lost.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, openPage } from "./browser.mjs";
import { compile, PACKAGE, WORK } from "./models.mjs";
import { serve } from "./server.mjs";
import { difference } from "./tensors.mjs";

const REQUEST = { prompt: "a green square", seed: 11, steps: 4 };

let server;
let browser;
let page;

before(async () => {
  compile("shapes/model", "shapes");
  server = await serve({ package: PACKAGE, models: WORK });
  browser = await launch();
  page = await openPage(await browser.newContext(), server.url);
  // On the page itself, where a test can count what the GPU holds.
  await page.evaluate(async () => {
    globalThis.buffers = new Set();
    const { createBuffer } = GPUDevice.prototype;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const buffer = createBuffer.call(this, descriptor);
      buffers.add(buffer);
      return buffer;
    };
    const { destroy } = GPUBuffer.prototype;
    GPUBuffer.prototype.destroy = function () {
      buffers.delete(this);
      destroy.call(this);
    };
    globalThis.pipeline = await splamc.Pipeline.from("/models/shapes.splam", { worker: false });
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

test("an aborted run ends within half a second, and the pipeline goes on", async (context) => {
  const wanted = await page.evaluate((own) => make(pipeline, own), REQUEST);
  for (const delay of [150, 900]) {
    const found = await page.evaluate(async ([own, after]) => {
      const controller = new AbortController();
      let aborted = 0;
      setTimeout(() => {
        aborted = performance.now();
        controller.abort();
      }, after);
      const failure = await caught(() =>
        pipeline.generate({ ...own, signal: controller.signal }).result(),
      );
      return { ...failure, milliseconds: performance.now() - aborted };
    }, [REQUEST, delay]);
    context.diagnostic(`ended after ${Math.round(found.milliseconds)} ms`);
    assert.equal(found.name, "AbortError");
    assert.ok(found.milliseconds < 500, `${found.milliseconds} ms`);
  }
  const again = await page.evaluate((own) => make(pipeline, own), REQUEST);
  assert.deepEqual(again.latents, wanted.latents);
  assert.deepEqual(again.types, ["text", "step", "step", "step", "step", "image"]);
});

test("a second run at the same time is refused", async () => {
  const [first, second] = await page.evaluate((own) =>
    Promise.all([
      caught(async () => (await pipeline.generate(own).result()).settings.steps),
      caught(async () => (await pipeline.generate(own).result()).settings.steps),
    ]), REQUEST);
  assert.equal(first.value, REQUEST.steps);
  assert.equal(second.code, "state");
});

test("previews come after each step but the last", async () => {
  const sizes = await page.evaluate(async (own) => {
    const found = [];
    for await (const event of pipeline.generate({ ...own, preview: 1 })) {
      if (event.type === "step") found.push(event.preview?.width ?? 0);
    }
    return found;
  }, REQUEST);
  assert.deepEqual(sizes, [64, 64, 64, 0]);
});

test("twenty pictures hold no more buffers than one", async () => {
  const counts = await page.evaluate(async () => {
    const held = () => [...buffers].reduce((sum, { size }) => sum + size, 0);
    const found = [];
    for (let seed = 0; seed < 20; seed++) {
      await pipeline.generate({ prompt: "a blue triangle", seed, steps: 1 }).result();
      found.push([buffers.size, held()].join());
    }
    return found;
  });
  assert.equal(counts.length, 20);
  assert.equal(new Set(counts).size, 1, counts.join(" "));
});

test("a run goes on after the GPU was lost", async () => {
  const wanted = await page.evaluate((own) => make(pipeline, own), REQUEST);
  const session = await browser.newBrowserCDPSession();
  const running = page.evaluate(async (own) => {
    const generation = pipeline.generate(own);
    const types = [];
    for await (const event of generation) {
      types.push(event.type);
      globalThis.reached = types.length;
    }
    const { latents } = await generation.result();
    return { types, latents: [...latents] };
  }, REQUEST);
  await page.waitForFunction(() => globalThis.reached >= 2);
  await session.send("Browser.crashGpuProcess").catch(() => undefined);
  const found = await running;
  assert.ok(found.types.includes("recovered"), found.types.join());
  assert.equal(difference(found.latents, wanted.latents), 0);
});

test("a pipeline that was disposed of holds nothing", async () => {
  const found = await page.evaluate(async () => {
    await pipeline.dispose();
    const failure = await caught(() => pipeline.generate({ prompt: "x" }).result());
    return { ...failure, held: buffers.size };
  });
  assert.equal(found.code, "state");
});
