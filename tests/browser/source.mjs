// Parts of the package for tests that need no browser.

import { createRequire } from "node:module";
import { join } from "node:path";

import { ROOT } from "./models.mjs";

const { build } = createRequire(new URL("../../examples/browser/package.json", import.meta.url))(
  "esbuild",
);

/** A module of the package's sources as an address that imports it. */
export async function address(name) {
  const built = await build({
    entryPoints: [join(ROOT, `examples/browser/src/${name}.ts`)],
    bundle: true,
    format: "esm",
    write: false,
  });
  const text = built.outputFiles[0].text;
  return `data:text/javascript;base64,${Buffer.from(text).toString("base64")}`;
}

/** A module of the package's sources. */
export async function source(name) {
  return import(await address(name));
}
