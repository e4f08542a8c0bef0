// Builds the package: scripts by esbuild, declarations by TypeScript, and the core that Cargo built.
//
// Takes the path of `browser_core.wasm` as its one argument, or finds it where Cargo leaves it;
// writes `dist/`.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import binaryen from "binaryen";
import { build } from "esbuild";

/** What the package calls of the core, see `core/src/exports.rs`. */
const EXPORTS = [
  "memory", "advance", "begin", "configure", "embed_guidance", "estimate", "network_input",
  "reserve", "result", "result_length", "samplers", "tabulate",
];

/** What the core may use of WebAssembly. */
const FEATURES = [
  "BulkMemory", "BulkMemoryOpt", "CallIndirectOverlong", "MutableGlobals", "Multivalue",
  "NontrappingFPToInt", "ReferenceTypes", "SignExt",
];

const here = dirname(fileURLToPath(import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(here, "../../target");
const core =
  process.argv[2] ?? join(target, "wasm32-unknown-unknown/browser/browser_core.wasm");
const out = join(here, "dist");

/** What `engine.js` exports: everything that works in a page and in a worker alike. */
const ENGINE = [
  "artifact", "engine", "error", "files", "kept", "manifest", "megabytes", "png", "probe",
];
const engine = ENGINE.map((name) => `export * from "./${name}.js";`).join("\n");

/**
 * Bundles one script. Modules of the engine are in `engine.js` alone, so that a page and its worker
 * load them once, and an error's class is the same everywhere.
 */
function bundle(name, contents) {
  const shared = {
    name: "shared",
    setup: (own) =>
      own.onResolve({ filter: /^\.\/\w+\.js$/ }, ({ path }) => {
        const module = path.slice(2, -3);
        if (contents !== undefined) return undefined;
        if (ENGINE.includes(module)) return { path: "./engine.js", external: true };
        return module === "index" ? { path: "./index.js", external: true } : undefined;
      }),
  };
  const source = contents === undefined
    ? { entryPoints: [join(here, `src/${name}.ts`)] }
    : { stdin: { contents, resolveDir: join(here, "src"), loader: "ts" } };
  return build({
    ...source,
    outfile: join(out, `${name}.js`),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none",
    plugins: [shared],
  });
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await bundle("engine", engine);
for (const name of ["index", "worker", "page"]) await bundle(name, undefined);
execFileSync("npx", ["tsc", "--emitDeclarationOnly", "--declaration"], { cwd: here, stdio: "inherit" });
for (const file of ["index.html", "page.css"]) copyFileSync(join(here, "page", file), join(out, file));
writeFileSync(join(out, "core.wasm"), shrink(readFileSync(core)));

/**
 * Optimises the core for size. Libraries that the core does not call export functions of their own,
 * which keep them alive: what this package does not call goes first.
 */
function shrink(bytes) {
  const module = binaryen.readBinary(bytes);
  for (let index = module.getNumExports() - 1; index >= 0; index--) {
    const { name } = binaryen.getExportInfo(module.getExportByIndex(index));
    if (!EXPORTS.includes(name)) module.removeExport(name);
  }
  // What Rust's compiler uses by default, and every browser with WebGPU has.
  module.setFeatures(FEATURES.reduce((all, name) => all | binaryen.Features[name], 0));
  binaryen.setOptimizeLevel(2);
  binaryen.setShrinkLevel(2);
  module.optimize();
  module.optimize();
  module.runPasses(["strip-debug", "strip-producers", "strip-target-features"]);
  return module.emitBinary();
}
