/**
 * An artifact's manifest: what it is, what it needs, and every other file with its hash.
 *
 * Takes the bytes of `manifest.json`; gives its content, checked by its own hash. It fetches
 * nothing.
 */

import { SplamError } from "./error.js";

/** The version of the format that this package reads. */
const VERSION = 3;

/** A file of the artifact. */
export interface StoredFile {
  file: string;
  bytes: number;
  sha256: string;
}

/** A named tensor of fixed shape. */
export interface NamedShape {
  name: string;
  dtype: string;
  shape: number[];
}

/** What a program is. */
export interface ProgramSummary {
  name: string;
  component: string;
  peak_bytes: number;
  inputs: NamedShape[];
  outputs: NamedShape[];
}

/** One network. */
export interface Component {
  name: string;
  task: "encode_text" | "denoise" | "decode" | "encode_picture" | "graph";
  inputs: { name: string; role: string | null; shape: unknown[] }[];
}

/** How one network encodes prompts. */
export interface PromptEncoder {
  component: string;
  tokenizer: string;
  hidden: string;
  pooled?: string;
  vocabulary?: number;
}

/** A diffusion pipeline. */
export interface PipelineDescription {
  class?: string;
  components: Component[];
  latents: {
    channels: number;
    size: [number, number];
    pixels: number;
    scaling_factor: number;
    shift_factor: number;
  };
  prompts: {
    encoders: PromptEncoder[];
    absent_is_zero: boolean;
    size_ids: string[];
    guidance_scale: number;
  };
  scheduler?: string;
  scheduler_class?: string;
  distilled?: {
    method: string;
    steps: number;
    guidance?: number;
    distilled_guidance?: string;
  };
}

/** What an artifact is, and its files. */
export interface Manifest {
  format: string;
  version: number;
  kind: "pipeline" | "graph";
  producer: string;
  target: string;
  dtype: string;
  picture: { batch: number; height: number; width: number };
  vae_tiling?: unknown;
  requirements: {
    peak_bytes: number;
    limits: Record<string, number>;
    features: string[];
  };
  pipeline: PipelineDescription;
  programs: ProgramSummary[];
  files: Record<string, StoredFile>;
  shards: StoredFile[] | null;
}

/** SHA-256 in hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Reads a manifest of a pipeline for WebGPU; `place` is where it came from, for messages. */
export async function readManifest(
  bytes: Uint8Array<ArrayBuffer>,
  place: string,
): Promise<Manifest> {
  let manifest: Manifest;
  const text = new TextDecoder().decode(bytes);
  try {
    manifest = JSON.parse(text) as Manifest;
  } catch (cause) {
    const message = `${place} is not JSON; expected the manifest of a .splam artifact`;
    throw new SplamError("artifact", message, { cause });
  }
  if (manifest.format !== "splam" || manifest.version !== VERSION) {
    const found = `${manifest.format ?? "no format"} ${manifest.version ?? ""}`.trim();
    throw new SplamError(
      "unsupported",
      `${place} is ${found}; expected splam ${VERSION}: compile the model again`,
    );
  }
  const seal = /,\n  "sha256": "([0-9a-f]{64})"\n\}\n$/.exec(text);
  const sealed = bytes.subarray(0, bytes.length - (seal?.[0].length ?? 0));
  if (seal === null || (await sha256(sealed.slice())) !== seal[1]) {
    const message = `${place} was changed or cut: its hash is not that of its content`;
    throw new SplamError("integrity", message);
  }
  if (manifest.target !== "wgsl") {
    throw new SplamError(
      "unsupported",
      `the artifact was compiled for ${manifest.target}; a browser needs --target wgsl`,
    );
  }
  if (manifest.kind !== "pipeline" || manifest.picture == null) {
    throw new SplamError(
      "unsupported",
      "the artifact holds one graph; expected a pipeline that makes pictures from prompts",
    );
  }
  if (manifest.shards === null) {
    throw new SplamError(
      "unsupported",
      "the artifact was compiled with --no-weights; compile it with its weights",
    );
  }
  return manifest;
}

/** The file of a role, such as `plan.pb`. */
export function fileOf(manifest: Manifest, role: string): StoredFile {
  const entry = manifest.files[role];
  if (entry === undefined) {
    throw new SplamError("artifact", `manifest.json lists no file ${role}`);
  }
  return entry;
}

/** The first network for a task. */
export function componentOf(manifest: Manifest, task: Component["task"]): Component {
  const found = manifest.pipeline.components.find((own) => own.task === task);
  if (found === undefined) throw new SplamError("artifact", `the artifact has no network to ${task}`);
  return found;
}

/** The bytes of all files that a pipeline needs. */
export function totalBytes(manifest: Manifest): number {
  const entries = [...Object.values(manifest.files), ...(manifest.shards ?? [])];
  return entries.reduce((sum, entry) => sum + entry.bytes, 0);
}
