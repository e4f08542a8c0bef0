/**
 * A pipeline at work: from a prompt to pictures on a GPU.
 *
 * Takes an artifact; gives events for requests, one at a time. The sampling loop runs on the host:
 * the latents that are read back after each step are checked, can be shown, and let a run go on
 * after the GPU was lost. It runs in a worker as well as on a page.
 */

import { Artifact, fetchManifest, type DownloadProgress } from "./artifact.js";
import { Core } from "./core.js";
import { concatenated, filledTensor, floatTensor, numbers, type Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import type { GenerateEvent, Request, Settings } from "./events.js";
import type { CacheMode } from "./files.js";
import { guideOf, usualSteps, type Guide } from "./guide.js";
import { remember } from "./kept.js";
import { componentOf, type Manifest } from "./manifest.js";
import { Network } from "./networks.js";
import { parametersOf, pixels } from "./picture.js";
import { expectEnough, requestDevice } from "./probe.js";
import { Gpu } from "./program.js";
import { Prompts } from "./prompts.js";
import { openStore } from "./store.js";

/** Progress of loading. */
export type Progress = DownloadProgress | { phase: "prepare"; component: string };

/** How a pipeline is loaded. */
export interface EngineOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  cache: CacheMode;
  /** A device of the caller's; the pipeline never destroys it. */
  device?: GPUDevice | undefined;
  /** The address of `core.wasm`. */
  core: string;
}

/** How long a failed call waits to be told that the GPU is gone, in milliseconds. */
const LOSS_MS = 4000;

/** A loaded pipeline. */
export class Engine {
  private readonly networks = new Map<string, Network>();
  private prompts!: Prompts;
  private isBusy = false;
  private isDisposed = false;
  private lost: GPUDeviceLostInfo | undefined;
  /** What stops the load or the run that is under way. */
  private signal: AbortSignal | undefined;

  private constructor(
    readonly manifest: Manifest,
    private readonly artifact: Artifact,
    private readonly core: Core,
    private readonly options: EngineOptions,
    private gpu: Gpu,
  ) {
    this.signal = options.signal;
    this.watch();
  }

  /** Loads the pipeline of an artifact: everything that a run with the usual settings needs. */
  static async open(url: string, options: EngineOptions): Promise<Engine> {
    const { signal, device: own } = options;
    const { base, manifest } = await fetchManifest(url, signal);
    if (manifest.vae_tiling !== undefined) {
      const message = "the artifact was compiled with --vae-tiling, which browsers do not do yet";
      throw new SplamError("unsupported", `${message}: compile it without`);
    }
    // Before anything large is fetched.
    if (own !== undefined) expectEnough(manifest, own);
    const device = own ?? (await requestDevice(manifest));
    try {
      const store = options.cache === false ? undefined : await openStore();
      const module = WebAssembly.compileStreaming(fetch(options.core));
      const [artifact, core] = await Promise.all([
        Artifact.open(base, manifest, { ...options, store }),
        module.then((compiled) => Core.of(compiled)),
      ]);
      const engine = new Engine(manifest, artifact, core, options, new Gpu(device, artifact.kernels));
      await engine.prepare();
      if (store !== undefined && artifact.isKept) await remember(store, base, manifest);
      return engine;
    } catch (error) {
      if (own === undefined) device.destroy();
      throw error;
    }
  }

  /** The names of all samplers. */
  samplers(): string[] {
    return this.core.samplers();
  }

  /** Makes pictures; `emit` is told of what happens, the pictures last. */
  async generate(
    request: Request,
    signal: AbortSignal | undefined,
    emit: (event: GenerateEvent) => void,
  ): Promise<void> {
    if (this.isDisposed) throw new SplamError("state", "the pipeline was disposed of");
    if (this.isBusy) {
      throw new SplamError("state", "the pipeline is at work: wait for it, or abort that run");
    }
    this.isBusy = true;
    this.signal = signal;
    try {
      await this.sample(request, signal, emit);
    } finally {
      this.isBusy = false;
    }
  }

  /** Frees everything on the GPU; a device of the caller's stays. */
  dispose(): void {
    this.isDisposed = true;
    this.networks.forEach((network) => network.dispose());
    this.networks.clear();
    if (this.options.device === undefined) this.gpu.device.destroy();
  }

  /** Loads what the usual settings need. */
  private async prepare(): Promise<void> {
    const { signal } = this;
    const network = (component: string, name: string) => this.network(component, name);
    this.prompts = await Prompts.open(this.artifact, this.core, network, signal);
    const { guide } = this.configure({ prompt: "" });
    const { encoders } = this.manifest.pipeline.prompts;
    for (const { component } of encoders) await this.network(component, "text");
    const denoiser = componentOf(this.manifest, "denoise").name;
    await this.network(denoiser, guide.doubled ? "guided_step" : "step");
    await this.network(componentOf(this.manifest, "decode").name, "decode");
  }

  /** A network, loaded at its first use. */
  private async network(component: string, name: string): Promise<Network> {
    const key = `${component}/${name}`;
    const known = this.networks.get(key);
    if (known !== undefined) return known;
    // The step with guidance and the one without hold the same weights: one of them at a time.
    for (const other of [`${component}/step`, `${component}/guided_step`]) {
      this.networks.get(other)?.dispose();
      this.networks.delete(other);
    }
    this.options.onProgress?.({ phase: "prepare", component });
    const network = await Network.load(this.artifact, this.gpu, [component, name], this.signal);
    this.networks.set(key, network);
    return network;
  }

  private configure(request: Request): { settings: Settings; guide: Guide; timesteps: Float64Array } {
    const { pipeline } = this.manifest;
    if (pipeline.scheduler === undefined) {
      throw new SplamError("artifact", "the artifact has no scheduler_config.json");
    }
    const sampler = this.core.configure({
      scheduler: pipeline.scheduler,
      schedulerClass: pipeline.scheduler_class ?? "",
      pipelineClass: pipeline.class ?? "",
      sampler: request.sampler ?? "",
    });
    const guide = guideOf(pipeline, sampler, request);
    const steps = request.steps ?? usualSteps(pipeline, sampler);
    const timesteps = this.core.tabulate(steps, sampler);
    const settings: Settings = {
      prompt: request.prompt,
      negativePrompt: request.negativePrompt ?? "",
      steps: sampler === "perflow" ? Math.max(steps, timesteps.length) : steps,
      sampler,
      guidanceScale: guide.scale,
      guidanceRescale: guide.rescale,
      seed: seedOf(request.seed ?? 0),
      rng: request.rng ?? "philox",
    };
    return { settings, guide, timesteps };
  }

  private async sample(
    request: Request,
    signal: AbortSignal | undefined,
    emit: (event: GenerateEvent) => void,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { settings, guide, timesteps } = this.configure(request);
    const { latents } = this.manifest.pipeline;
    const { batch, height, width } = this.manifest.picture;
    const shape: [number, number, number, number] = [
      batch, latents.channels, height / latents.pixels, width / latents.pixels,
    ];
    const call = <T>(act: () => Promise<T>) => this.recovering(act, signal, emit);

    const conditions = await call(() => this.prompts.encode(settings, guide, signal, emit));
    this.core.begin(settings.rng, settings.seed, shape);
    const denoiser = componentOf(this.manifest, "denoise");
    const program = guide.doubled ? "guided_step" : "step";
    const inputs = this.artifact.program(denoiser.name, program).inputs;
    const declared = inputs.find((own) => own.name === "timestep");
    let current: Float32Array = new Float32Array();
    for (const [step, timestep] of timesteps.entries()) {
      const started = performance.now();
      const seen = this.core.networkInput(step);
      const doubled: [number, ...number[]] = [shape[0] * (guide.doubled ? 2 : 1), ...shape.slice(1)];
      const sample = floatTensor(doubled, guide.doubled ? concatenated([seen, seen]) : seen);
      const time = filledTensor(declared?.dtype ?? "f32", declared?.shape ?? [], timestep);
      const given = new Map([...conditions, ["sample", sample], ["timestep", time]]);
      const answer = await call(async () => {
        const network = await this.network(denoiser.name, program);
        const results = await network.run(given, ["out_sample"], signal);
        return numbers(results.get("out_sample") as Tensor);
      });
      current = this.core.advance(step, answer, guide.doubled ? guide : undefined);
      const event: GenerateEvent = {
        type: "step", step: step + 1, steps: timesteps.length, milliseconds: performance.now() - started,
      };
      const isLast = step + 1 === timesteps.length;
      const every = request.preview ?? 0;
      if (every > 0 && (step + 1) % every === 0 && !isLast) {
        const estimate = this.core.estimate();
        const [preview] = await call(() => this.decode(estimate, shape, 1, signal));
        if (preview !== undefined) event.preview = preview;
      }
      emit(event);
      signal?.throwIfAborted();
    }
    const images = await call(() => this.decode(current, shape, batch, signal));
    const image = images[0] as ImageData;
    const { producer } = this.manifest;
    const parameters = parametersOf(settings, image, { model: this.artifact.name, producer });
    emit({ type: "image", image, images, parameters, settings, latents: current });
  }

  /** Decodes the first `count` pictures of latents. */
  private async decode(
    latents: Float32Array,
    [batch, ...picture]: [number, number, number, number],
    count: number,
    signal: AbortSignal | undefined,
  ): Promise<ImageData[]> {
    const { scaling_factor, shift_factor } = this.manifest.pipeline.latents;
    const network = await this.network(componentOf(this.manifest, "decode").name, "decode");
    const size = latents.length / batch;
    const [scaling, shift] = [Math.fround(scaling_factor), Math.fround(shift_factor)];
    const images: ImageData[] = [];
    for (let number = 0; number < count; number++) {
      const own = latents.subarray(number * size, (number + 1) * size);
      const seen = own.map((x) => Math.fround(x / scaling) + shift);
      const inputs = new Map([["latent_sample", floatTensor([1, ...picture], seen)]]);
      const results = await network.run(inputs, ["sample"], signal);
      images.push(pixels(results.get("sample") as Tensor));
    }
    return images;
  }

  /** Calls again what failed because the GPU was lost, once everything is loaded anew. */
  private async recovering<T>(
    act: () => Promise<T>,
    signal: AbortSignal | undefined,
    emit: (event: GenerateEvent) => void,
  ): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (signal?.aborted === true || error instanceof SplamError || this.isDisposed) throw error;
      if (!(await this.isLost())) throw error;
      if (this.options.device !== undefined) {
        const message = `the GPU was lost (${this.lost?.message || this.lost?.reason})`;
        throw new SplamError("device-lost", `${message}: load the pipeline with a new device`);
      }
    }
    // Buffers of a lost device are gone.
    this.networks.clear();
    this.lost = undefined;
    try {
      this.gpu = new Gpu(await requestDevice(this.manifest), this.artifact.kernels);
    } catch (cause) {
      const message = "the GPU was lost and cannot be had again: reload the page";
      throw new SplamError("device-lost", message, { cause });
    }
    this.watch();
    emit({ type: "recovered" });
    return act();
  }

  private watch(): void {
    const { device } = this.gpu;
    void device.lost.then((info) => {
      if (device === this.gpu.device) this.lost = info;
    });
  }

  private async isLost(): Promise<boolean> {
    const patience = new Promise((resolve) => setTimeout(resolve, LOSS_MS));
    await Promise.race([this.gpu.device.lost, patience]);
    return this.lost !== undefined;
  }
}

function seedOf(seed: number | bigint): bigint {
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
    throw new SplamError("option", `seed is ${seed}; expected a whole number, or a bigint`);
  }
  const whole = BigInt(seed);
  if (whole < 0n || whole >= 1n << 64n) {
    throw new SplamError("option", `seed is ${seed}; expected 0 to ${(1n << 64n) - 1n}`);
  }
  return whole;
}
