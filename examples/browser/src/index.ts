/**
 * `@splamc/web`: diffusion models that splamc compiled, in a browser.
 *
 * ```ts
 * const pipeline = await Pipeline.from("shapes.splam");
 * const { image } = await pipeline.generate({ prompt: "a red circle" }).result();
 * ```
 *
 * Work happens in a worker unless `worker: false` or a `device` says otherwise.
 */

import { Engine, type EngineOptions, type Progress } from "./engine.js";
import { SplamError } from "./error.js";
import type { GenerateEvent, Picture, Request } from "./events.js";
import type { CacheMode } from "./files.js";
import type { CachedModel } from "./kept.js";
import { Link } from "./link.js";
import type { Manifest } from "./manifest.js";
import { encodePng } from "./png.js";
import type { Opened } from "./protocol.js";

export type { DownloadProgress } from "./artifact.js";
export type { Progress } from "./engine.js";
export { SplamError, type ErrorCode } from "./error.js";
export type { GenerateEvent, Picture, Request, Settings } from "./events.js";
export type { CacheMode } from "./files.js";
export type { CachedModel } from "./kept.js";
export type { Manifest } from "./manifest.js";
export { fetchManifest } from "./artifact.js";
export { totalBytes } from "./manifest.js";
export { lacks, probe, requestAdapter, type Capabilities, type Lack } from "./probe.js";

/** How a pipeline is loaded. */
export interface LoadOptions {
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** Whether files are kept: where possible by default; `"required"` makes a full store an error. */
  cache?: CacheMode;
  /** Whether a worker does the work; yes by default. */
  worker?: boolean;
  /** A device of the caller's, which is used on the page itself and never destroyed. */
  device?: GPUDevice;
}

/** A request, and how to stop it. */
export interface GenerateOptions extends Request {
  signal?: AbortSignal;
}

/** A loaded pipeline, in a worker or on the page. */
interface Backend {
  opened: Opened;
  generate(
    request: Request,
    signal: AbortSignal | undefined,
    emit: (event: GenerateEvent) => void,
  ): Promise<void>;
  dispose(): Promise<void>;
}

/** A pipeline that makes pictures. */
export class Pipeline {
  private constructor(private readonly backend: Backend) {}

  /**
   * Loads the artifact at an address, that of its folder or of its manifest: checks what the GPU
   * offers before anything large is fetched, then fetches what this browser does not keep.
   */
  static async from(url: string | URL, options: LoadOptions = {}): Promise<Pipeline> {
    const { signal, onProgress, cache = true, device } = options;
    const absolute = new URL(url, document.baseURI).href;
    const core = new URL("./core.wasm", import.meta.url).href;
    signal?.throwIfAborted();
    if (options.worker === false || device !== undefined) {
      const own: EngineOptions = { signal, onProgress, cache, device, core };
      return new Pipeline(await onPage(absolute, own));
    }
    const link = new Link();
    try {
      const message = { type: "open", url: absolute, cache, core } as const;
      const opened = await link.ask<Opened>(message, signal, (answer) => {
        if (answer.type === "progress") onProgress?.(answer.progress);
      });
      return new Pipeline(inWorker(link, opened));
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** What the artifact is. */
  get manifest(): Manifest {
    return this.backend.opened.manifest;
  }

  /** The names of all samplers. */
  get samplers(): string[] {
    return this.backend.opened.samplers;
  }

  /** Makes pictures. Nothing happens before the events or the result are asked for. */
  generate(options: GenerateOptions): Generation {
    const { signal, ...request } = options;
    return new Generation((emit) => this.backend.generate(request, signal, emit));
  }

  /** Frees the GPU's memory and the worker. */
  dispose(): Promise<void> {
    return this.backend.dispose();
  }
}

/** A run: its events in order, or its end. */
export class Generation implements AsyncIterable<GenerateEvent> {
  private readonly events: GenerateEvent[] = [];
  private readonly waiting: (() => void)[] = [];
  private ending: Promise<void> | undefined;
  private isOver = false;
  private failure: unknown;

  constructor(private readonly start: (emit: (event: GenerateEvent) => void) => Promise<void>) {}

  /** The events, the picture last. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GenerateEvent> {
    void this.begin();
    for (let next = 0; ; next++) {
      while (next >= this.events.length && !this.isOver) {
        await new Promise<void>((resolve) => this.waiting.push(resolve));
      }
      const event = this.events[next];
      if (event !== undefined) yield event;
      else if (this.failure !== undefined) throw this.failure;
      else return;
    }
  }

  /** The picture. */
  async result(): Promise<Picture & { png(): Promise<Blob> }> {
    await this.begin();
    if (this.failure !== undefined) throw this.failure;
    const last = this.events.at(-1);
    if (last?.type !== "image") throw new SplamError("state", "the run ended without a picture");
    return { ...last, png: () => encodePng(last.image, last.parameters) };
  }

  private begin(): Promise<void> {
    const wake = () => this.waiting.splice(0).forEach((resolve) => resolve());
    this.ending ??= this.start((event) => {
      this.events.push(event);
      wake();
    })
      .catch((error: unknown) => {
        this.failure = error ?? new Error("the run failed");
      })
      .finally(() => {
        this.isOver = true;
        wake();
      });
    return this.ending;
  }
}

/** The models that this browser keeps. */
export function cached(): Promise<CachedModel[]> {
  return once<CachedModel[]>((link) => link.ask({ type: "cached" }));
}

/** Removes a model by the address of its manifest, or everything that this package keeps. */
export function remove(url?: string): Promise<void> {
  return once<void>((link) => link.ask({ type: "remove", url }));
}

async function once<T>(act: (link: Link) => Promise<T>): Promise<T> {
  const link = new Link();
  try {
    return await act(link);
  } finally {
    link.close();
  }
}

async function onPage(url: string, options: EngineOptions): Promise<Backend> {
  const engine = await Engine.open(url, options);
  return {
    opened: { manifest: engine.manifest, samplers: engine.samplers() },
    generate: (request, signal, emit) => engine.generate(request, signal, emit),
    dispose: () => Promise.resolve(engine.dispose()),
  };
}

function inWorker(link: Link, opened: Opened): Backend {
  return {
    opened,
    generate: (request, signal, emit) =>
      link.ask<void>({ type: "generate", request }, signal, (answer) => {
        if (answer.type === "event") emit(answer.event);
      }),
    dispose: async () => {
      await link.ask({ type: "dispose" });
      link.close();
    },
  };
}
