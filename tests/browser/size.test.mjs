// How much a page downloads besides the model.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { PACKAGE } from "./models.mjs";

/** Bytes after gzip -9. The aims are 60,000 and 80,000: what is reached must not be lost. */
const CORE_BYTES_MAX = 69_000;
const PACKAGE_BYTES_MAX = 89_000;

const zipped = (file) => gzipSync(readFileSync(join(PACKAGE, file)), { level: 9 }).length;

test("the core and the whole package are small", (context) => {
  const core = zipped("core.wasm");
  // The page and declarations are not what a site that uses the package sends.
  const scripts = readdirSync(PACKAGE).filter((file) => /\.js$/.test(file) && file !== "page.js");
  const all = core + scripts.reduce((sum, file) => sum + zipped(file), 0);
  context.diagnostic(`core ${core} bytes, package ${all} bytes`);
  assert.ok(core <= CORE_BYTES_MAX, `core.wasm has ${core} bytes, at most ${CORE_BYTES_MAX}`);
  assert.ok(all <= PACKAGE_BYTES_MAX, `the package has ${all} bytes, at most ${PACKAGE_BYTES_MAX}`);
});
