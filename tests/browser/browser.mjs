// A browser with WebGPU in software, and pages with the package.

import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../../examples/browser/package.json", import.meta.url))(
  "playwright-core",
);

/** Starts the browser; without `webgpu` it has the interface and no adapter. */
export function launch({ webgpu = true } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless=new", "--no-sandbox", ...(webgpu ? ["--enable-unsafe-webgpu"] : [])],
    ignoreDefaultArgs: ["--headless"],
  });
}

/** An empty page of the server, with the package as `splamc` and what tests use. */
export async function openPage(context, url) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  await page.goto(url);
  await page.evaluate(async () => {
    globalThis.splamc = await import("/package/index.js");
    // Errors as data: what passes out of a page loses its fields.
    globalThis.caught = async (act) => {
      try {
        return { value: await act() };
      } catch (error) {
        return { name: error.name, code: error.code, message: error.message };
      }
    };
    /** Makes a picture; gives what can pass out of a page. */
    globalThis.make = async (pipeline, request) => {
      const generation = pipeline.generate(request);
      const types = [];
      for await (const event of generation) types.push(event.type);
      const { latents, image, parameters, settings } = await generation.result();
      const { sampler, steps } = settings;
      return { types, latents: [...latents], pixels: [...image.data], parameters, sampler, steps };
    };
  });
  return page;
}
