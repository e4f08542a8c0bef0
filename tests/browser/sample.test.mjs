// From a prompt to a picture: the same latents as on the command line.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, openPage } from "./browser.mjs";
import { compile, PACKAGE, sample, WORK } from "./models.mjs";
import { serve } from "./server.mjs";
import { difference } from "./tensors.mjs";

/** What sums of f32 in another order may differ by. */
const F32 = 1e-3;
/** What values of 16 bits between kernels may differ by. */
const F16 = 2e-2;
const PROMPT = "a red circle on a blue background";

let server;
let browser;
let page;

before(async () => {
  compile("shapes/model", "shapes");
  compile("shapes/model", "shapes-f16", ["--dtype", "f16"]);
  compile("tiny-model", "tiny", ["-W", "16", "-H", "16"]);
  server = await serve({ package: PACKAGE, models: WORK });
  browser = await launch();
  page = await openPage(await browser.newContext(), server.url);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** Opens the pipeline of an artifact in the page, in place of the one before. */
async function open(name) {
  await page.evaluate(async (url) => {
    await globalThis.pipeline?.dispose();
    globalThis.pipeline = await splamc.Pipeline.from(url);
  }, `/models/${name}.splam`);
}

/** Makes a picture in the page and on the command line; gives the difference of the latents. */
async function compare(context, request, model, options) {
  const found = await page.evaluate((own) => make(pipeline, own), request);
  const wanted = sample(model, options);
  const own = difference(found.latents, wanted.final_latents);
  context.diagnostic(`latents differ by ${own.toExponential(1)}`);
  const levels = pixelsOf(wanted.decoded);
  const worst = found.pixels.reduce((most, level, at) => Math.max(most, Math.abs(level - levels[at])), 0);
  return { ...found, difference: own, worst };
}

/** Decoded numbers `[3, height, width]` in [-1, 1] as RGBA. */
function pixelsOf(decoded) {
  const plane = decoded.length / 3;
  return Array.from({ length: 4 * plane }, (_, at) => {
    if (at % 4 === 3) return 255;
    const value = decoded[(at % 4) * plane + Math.floor(at / 4)];
    return Math.round(Math.min(Math.max(value / 2 + 0.5, 0), 1) * 255);
  });
}

test("the bundled student", async (context) => {
  await open("shapes");
  const { sampler, steps } = await page.evaluate(() => make(pipeline, { prompt: "x", steps: 1 }));
  assert.deepEqual([sampler, steps], ["lcm", 1]);
  const rows = [
    [{ seed: 7 }, ["-s", "7"]],
    [{ seed: 5, sampler: "splam", steps: 2 }, ["-s", "5", "--sampler", "splam", "--steps", "2"]],
    [{ seed: 3, rng: "torch-cpu", steps: 3 }, ["-s", "3", "--rng", "torch-cpu", "--steps", "3"]],
  ];
  for (const [request, options] of rows) {
    const own = await compare(
      context, { prompt: PROMPT, ...request }, "shapes/model", ["-p", PROMPT, ...options],
    );
    assert.ok(own.difference <= F32, `${options.join(" ")}: latents differ by ${own.difference}`);
    assert.ok(own.worst <= 1, `${options.join(" ")}: levels differ by ${own.worst}`);
    assert.deepEqual(own.types.at(-1), "image");
    assert.match(own.parameters, /^a red circle .*\nSteps: \d, Sampler: \w+, CFG scale: 1, Seed: \d/);
  }
});

test("options that the model cannot take are refused", async () => {
  const refused = (request) =>
    page.evaluate((own) => caught(() => pipeline.generate(own).result()), { prompt: "x", ...request });
  const rows = [
    [{ sampler: "best" }, /no sampler "best"; expected one of ddim, /],
    [{ steps: 0 }, /steps is 0/],
    [{ steps: 21 }, /steps is 21, which the sampler lcm cannot take/],
    [{ guidanceScale: 4 }, /guidanceScale is 4, but the model was distilled by splad/],
    [{ seed: -1 }, /seed is -1/],
  ];
  for (const [request, wanted] of rows) {
    const { code, message } = await refused(request);
    assert.equal(code, "option");
    assert.match(message, wanted);
  }
});

test("a pipeline with guidance", async (context) => {
  await open("tiny");
  const request = { prompt: "a cat", negativePrompt: "a dog", guidanceScale: 3, seed: 5, steps: 4 };
  const options = "-p,a cat,-n,a dog,--cfg-scale,3,-s,5,--steps,4,-W,16,-H,16".split(",");
  const own = await compare(context, request, "tiny-model", options);
  assert.ok(own.difference <= F32, `latents differ by ${own.difference}`);
  assert.equal(own.sampler, "ddim");
});

test("values stored in 16 bits", async (context) => {
  await open("shapes-f16");
  const own = await compare(
    context, { prompt: PROMPT, seed: 7 }, "shapes/model", ["-p", PROMPT, "-s", "7"],
  );
  assert.ok(own.difference <= F16, `latents differ by ${own.difference}`);
});
