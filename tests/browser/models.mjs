// Artifacts for the tests, and what the command line makes of the same models.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { readTensors } from "./tensors.mjs";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
/** The command. */
export const SPLAMC = process.env.SPLAMC ?? join(TARGET, "debug/splamc");
/** Where artifacts are kept. */
export const WORK = join(TARGET, "browser");
/** The package as it was built. */
export const PACKAGE = join(ROOT, "examples/browser/dist");

function splamc(options) {
  execFileSync(SPLAMC, options, { stdio: ["ignore", "ignore", "inherit"] });
}

/** Compiles a model of the examples for WebGPU; gives the artifact's folder in `WORK`. */
export function compile(model, name, options = []) {
  mkdirSync(WORK, { recursive: true });
  const path = join(WORK, `${name}.splam`);
  splamc(["compile", join(ROOT, "examples", model), "--target", "wgsl", "-o", path, ...options]);
  return path;
}

/** What `splamc sample` makes on the processor: the last latents and the decoded picture. */
export function sample(model, options) {
  mkdirSync(WORK, { recursive: true });
  const [picture, latents] = [join(WORK, "sample.png"), join(WORK, "sample.safetensors")];
  const source = existsSync(model) ? model : join(ROOT, "examples", model);
  splamc(["sample", source, "--target", "cpu", "-o", picture, "--latents-out", latents, ...options]);
  return readTensors(latents);
}
