// Every kernel of compiled models is accepted by Chromium's own compiler, which refuses some texts
// that naga accepts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./browser.mjs";
import { compile } from "./models.mjs";
import { serve } from "./server.mjs";

const MODELS = [
  ["shapes/model", "shapes", []],
  ["shapes/model", "shapes-f16", ["--dtype", "f16"]],
  ["shapes/model", "shapes-bf16", ["--dtype", "bf16"]],
  ["tiny-model", "tiny", ["-W", "16", "-H", "16"]],
  ["tiny-model", "tiny-large", ["-W", "128", "-H", "64"]],
];

let server;
let browser;
let page;

before(async () => {
  server = await serve({});
  browser = await launch();
  page = await browser.newPage();
  // WebGPU needs an address of its own.
  await page.goto(server.url);
});

after(async () => {
  await browser?.close();
  server?.close();
});

for (const [model, name, options] of MODELS) {
  test(`kernels of ${name}`, async (context) => {
    const folder = compile(model, name, options);
    const file = readdirSync(folder).find((own) => /^kernels-.*\.wgsl$/.test(own));
    const kernels = readFileSync(join(folder, file), "utf8").split(/^\/\/ kernel /m).slice(1);
    const refused = await page.evaluate(async (texts) => {
      const adapter = await navigator.gpu.requestAdapter();
      const device = await adapter.requestDevice();
      const all = texts.map(async (text) => {
        const { messages } = await device.createShaderModule({ code: `// ${text}` }).getCompilationInfo();
        const first = messages.find(({ type }) => type !== "info");
        const kernel = text.slice(0, text.indexOf("\n"));
        return first && `${kernel}, line ${first.lineNum}: ${first.message}`;
      });
      return (await Promise.all(all)).filter((own) => own);
    }, kernels);
    context.diagnostic(`${kernels.length} kernels`);
    assert.ok(kernels.length > 50, `${kernels.length} kernels`);
    assert.deepEqual(refused, []);
  });
}
