/**
 * An artifact: its manifest, its plan, its kernels and its weights, by what they are for.
 *
 * Takes an address; gives the parts of programs with their commands, constants and weights. It does
 * not know what a GPU is.
 */

import type { Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import { Files, type CacheMode } from "./files.js";
import { fileOf, readManifest, totalBytes, type Manifest, type ProgramSummary } from "./manifest.js";
import { decode } from "./protobuf.js";
import { readSafetensors } from "./safetensors.js";
import type { Message } from "./schema.js";
import type { Store } from "./store.js";
import type { TokenizerFiles } from "./tokenizer_files.js";

/** Progress of a download. */
export interface DownloadProgress {
  phase: "download";
  file: string;
  /** Bytes that are there. */
  loaded: number;
  total: number;
  /** Whether the file was kept by this browser. */
  cached: boolean;
}

/** How an artifact is fetched. */
export interface FetchOptions {
  store: Store | undefined;
  cache: CacheMode;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

/** A part of a program, as a GPU is given it. */
export interface PartOfProgram {
  stage: string;
  commands: Message<"Commands">;
  constant(buffer: number): Tensor;
}

/** Fetches and reads a manifest; `url` is the artifact's folder, or the manifest itself. */
export async function fetchManifest(
  url: string,
  signal?: AbortSignal,
): Promise<{ base: string; manifest: Manifest }> {
  const absolute = new URL(url, location.href).href;
  const place = absolute.endsWith("manifest.json")
    ? absolute
    : new URL("manifest.json", absolute.endsWith("/") ? absolute : `${absolute}/`).href;
  let response: Response;
  try {
    // The manifest alone keeps its name when a model changes.
    response = await fetch(place, { cache: "no-cache", signal: signal ?? null });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new SplamError("network", `${place} cannot be fetched: check the address`, { cause });
  }
  if (!response.ok) {
    throw new SplamError("network", `${place} answers ${response.status}: check the address`);
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { base: place, manifest: await readManifest(bytes, place) };
}

/** An opened artifact. */
export class Artifact {
  private shardOf = new Map<string, number>();

  private constructor(
    private readonly base: string,
    readonly manifest: Manifest,
    private readonly files: Files,
    private readonly plan: Message<"Plan">,
    readonly kernels: ReadonlyMap<string, string>,
  ) {
    plan.shards.forEach((shard, index) => {
      shard.tensors.forEach((name) => this.shardOf.set(name, index));
    });
  }

  /** Fetches the plan and the kernels. */
  static async open(base: string, manifest: Manifest, options: FetchOptions): Promise<Artifact> {
    const total = totalBytes(manifest);
    const files = new Files(base, options.store, options.cache, (file, cached) => {
      options.onProgress?.({ phase: "download", file, loaded: files.loaded, total, cached });
    });
    const [plan, kernels] = await Promise.all([
      files.read(fileOf(manifest, "plan.pb"), options.signal),
      files.read(fileOf(manifest, "kernels.wgsl"), options.signal),
    ]);
    const read = decode("Plan", plan);
    if (read.programs.length !== manifest.programs.length) {
      throw new SplamError("artifact", "the plan and manifest.json disagree on the programs");
    }
    if (read.shards.length !== manifest.shards?.length) {
      throw new SplamError("artifact", "the plan and manifest.json disagree on the shards");
    }
    const texts = splitKernels(new TextDecoder().decode(kernels));
    return new Artifact(base, manifest, files, read, texts);
  }

  /** The model's name: that of the artifact's folder. */
  get name(): string {
    const folder = decodeURIComponent(new URL(".", this.base).pathname).split("/").at(-2) ?? "";
    return folder.replace(/\.splam$/, "");
  }

  /** Whether the browser keeps all that was fetched so far. */
  get isKept(): boolean {
    return this.files.isKept;
  }

  /** What a program takes and gives. */
  program(component: string, name: string): ProgramSummary {
    const found = this.manifest.programs.find(
      (own) => own.component === component && own.name === name,
    );
    if (found === undefined) {
      throw new SplamError("artifact", `the artifact has no program ${component}/${name}`);
    }
    return found;
  }

  /** The parts in which a program runs, in order. */
  parts(component: string, name: string): PartOfProgram[] {
    const index = this.manifest.programs.indexOf(this.program(component, name));
    const program = this.plan.programs[index] as Message<"Program">;
    const parts = program.parts.length > 0 ? program.parts : [program.whole];
    return parts.map((part) => {
      const commands = part.commands === undefined ? undefined : this.plan.commands[part.commands];
      if (commands === undefined) {
        throw new SplamError("artifact", `the plan has no commands for ${component}/${name}`);
      }
      return { stage: part.stage, commands, constant: (buffer) => this.constant(part, buffer) };
    });
  }

  /** The texts of a tokenizer's files. */
  async tokenizer(folder: string, signal: AbortSignal | undefined): Promise<TokenizerFiles> {
    const own = Object.entries(this.manifest.files).filter(([role]) => role.startsWith(`${folder}/`));
    const texts = own.map(async ([role, entry]): Promise<[string, string]> => {
      const bytes = await this.files.read(entry, signal);
      return [role.slice(folder.length + 1), new TextDecoder().decode(bytes)];
    });
    return new Map(await Promise.all(texts));
  }

  /** Hands over weights of a component, a shard at a time. */
  async weights(
    component: string,
    names: ReadonlySet<string>,
    take: (name: string, tensor: Tensor) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const byShard = new Map<number, string[]>();
    for (const name of names) {
      const shard = this.shardOf.get(`${component}/${name}`);
      if (shard === undefined) {
        throw new SplamError("artifact", `the artifact has no weight ${component}/${name}`);
      }
      byShard.set(shard, [...(byShard.get(shard) ?? []), name]);
    }
    // One after the other: the host holds one shard, and the driver copies of a few.
    for (const [shard, own] of [...byShard].sort(([first], [second]) => first - second)) {
      const entry = this.manifest.shards?.[shard];
      if (entry === undefined) throw new SplamError("artifact", `shard ${shard} is not listed`);
      const tensors = readSafetensors(await this.files.read(entry, signal), entry.file);
      for (const name of own) {
        const tensor = tensors.get(`${component}/${name}`);
        if (tensor === undefined) {
          throw new SplamError("artifact", `${entry.file} lacks the tensor ${component}/${name}`);
        }
        take(name, tensor);
      }
    }
  }

  private constant(part: Message<"Part">, buffer: number): Tensor {
    const place = part.constants[part.constant_buffers.indexOf(buffer)];
    const constant = place === undefined ? undefined : this.plan.constants[place];
    if (constant === undefined) {
      throw new SplamError("artifact", `the plan has no constant for buffer ${buffer}`);
    }
    return { dtype: constant.dtype, shape: constant.shape, bytes: constant.elements };
  }
}

/** Kernels by name: each begins below a line `// kernel NAME`. */
function splitKernels(text: string): Map<string, string> {
  const kernels = new Map<string, string>();
  for (const part of `\n${text}`.split("\n// kernel ").slice(1)) {
    const end = part.indexOf("\n");
    kernels.set(part.slice(0, end), `${part.slice(end + 1)}\n`);
  }
  return kernels;
}
