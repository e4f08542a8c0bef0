/**
 * One program, or one part of one, on a GPU: buffers filled with weights, and kernels with their
 * arguments.
 *
 * Takes commands of a plan; gives results for inputs, as often as wanted. Each kernel is compiled
 * once per device, asynchronously. Nothing is decided here: the plan says what is launched.
 */

import { encode, floats, type Layout, type Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import { Binding, Pool, type Message } from "./schema.js";

// Namespaces of WebGPU that TypeScript's library does not declare yet.
declare const GPUBufferUsage: Record<"COPY_DST" | "COPY_SRC" | "MAP_READ" | "STORAGE", number>;
declare const GPUMapMode: Record<"READ", number>;
declare const GPUShaderStage: Record<"COMPUTE", number>;

/** Launches that are submitted together at most. */
const BATCH = 32;
/** What a submission should take, in milliseconds: an aborted run waits for two of them. */
const SUBMISSION_MS = 100;
/** Operations in the first submissions, before the GPU's speed is known. */
const FIRST_FLOPS = 2e7;
/** Operations that are submitted together at most: drivers reset a GPU that works for seconds. */
const FLOPS_MAX = 1e10;

/** A GPU with what is known of it, and the kernels that were compiled for it. */
export class Gpu {
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  /** Operations that a submission holds, by what earlier ones took. */
  flops = FIRST_FLOPS;

  /** @param kernels texts by name */
  constructor(
    readonly device: GPUDevice,
    private readonly kernels: ReadonlyMap<string, string>,
  ) {}

  /** A compiled kernel. */
  pipeline(kernel: Message<"Kernel">): Promise<GPUComputePipeline> {
    const key = `${kernel.name} ${kernel.bindings.join("")}`;
    let pipeline = this.pipelines.get(key);
    if (pipeline === undefined) {
      pipeline = this.compile(kernel);
      this.pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  /** The layout of the arguments of a kernel. */
  layout(bindings: number[]): GPUBindGroupLayout {
    const key = bindings.join("");
    let layout = this.layouts.get(key);
    if (layout === undefined) {
      const entries = bindings.map((kind, binding): GPUBindGroupLayoutEntry => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: kind === Binding.READ ? "read-only-storage" : "storage" },
      }));
      layout = this.device.createBindGroupLayout({ entries });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  /** Takes note of how long a submission took. */
  measured(flops: number, milliseconds: number): void {
    const wanted = (flops / Math.max(milliseconds, 0.01)) * SUBMISSION_MS;
    // Half of the way: one slow submission is no slow GPU.
    const next = Math.sqrt(this.flops * Math.max(wanted, FIRST_FLOPS / 10));
    this.flops = Math.min(Math.max(next, FIRST_FLOPS / 10), FLOPS_MAX);
  }

  private async compile(kernel: Message<"Kernel">): Promise<GPUComputePipeline> {
    const code = this.kernels.get(kernel.name);
    if (code === undefined) {
      throw new SplamError("artifact", `the artifact's file of kernels lacks ${kernel.name}`);
    }
    const module = this.device.createShaderModule({ label: kernel.name, code });
    const layout = this.device.createPipelineLayout({
      bindGroupLayouts: [this.layout(kernel.bindings)],
    });
    try {
      return await this.device.createComputePipelineAsync({
        label: kernel.name,
        layout,
        compute: { module, entryPoint: "main" },
      });
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const first = messages.find((message) => message.type === "error");
      // Without a message the kernel is not at fault: the GPU may be lost.
      if (first === undefined) throw cause;
      const where = `at line ${first.lineNum}: ${first.message}`;
      const message = `this browser does not accept the kernel ${kernel.name} ${where}`;
      throw new SplamError("unsupported", message, { cause });
    }
  }
}

/** A program on a GPU. */
export class Program {
  private readonly buffers: GPUBuffer[][] = [];
  private steps: { pipeline: GPUComputePipeline; group: GPUBindGroup; grid: number[] }[] = [];
  private staging: GPUBuffer | undefined;

  private readonly uploads = new Map<string, Message<"Upload">[]>();

  private constructor(
    private readonly gpu: Gpu,
    private readonly component: string,
    private readonly commands: Message<"Commands">,
  ) {}

  /** The names of the weights that it reads. */
  get weights(): Iterable<string> {
    return this.uploads.keys();
  }

  /** The names of the inputs. */
  get inputs(): string[] {
    return this.commands.inputs.map((port) => port.name);
  }

  /** Reserves buffers and uploads constants; `constant` gives that of a buffer. */
  static of(
    gpu: Gpu,
    component: string,
    commands: Message<"Commands">,
    constant: (buffer: number) => Tensor,
  ): Program {
    refuseHosted(component, commands);
    const program = new Program(gpu, component, commands);
    program.reserve();
    for (const upload of commands.uploads) {
      if (upload.weight !== undefined) {
        const others = program.uploads.get(upload.weight) ?? [];
        program.uploads.set(upload.weight, [...others, upload]);
      } else if (upload.constant !== undefined) {
        program.write(upload, constant(upload.constant), `constant ${upload.constant}`);
      }
    }
    return program;
  }

  /** Uploads a weight, if the program reads it. */
  take(name: string, tensor: Tensor): void {
    for (const upload of this.uploads.get(name) ?? []) {
      this.write(upload, tensor, `${this.component}/${name}`);
    }
  }

  /**
   * Runs the program on f32 or i64 tensors by name; gives the results that `wanted` names. A signal
   * that is aborted stops it between two submissions.
   */
  async run(
    inputs: ReadonlyMap<string, Tensor>,
    wanted: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<Map<string, Tensor>> {
    for (const port of this.commands.inputs) {
      const tensor = inputs.get(port.name);
      if (tensor === undefined) throw new SplamError("artifact", `the input ${port.name} is missing`);
      const order = port.shape.map((_, axis) => axis);
      this.write({ ...port, order }, tensor, port.name);
    }
    await this.launch(signal);
    return this.read(wanted);
  }

  /** Frees the buffers. */
  dispose(): void {
    this.buffers.flat().forEach((buffer) => buffer.destroy());
    this.staging?.destroy();
    this.steps = [];
  }

  private reserve(): void {
    const { device } = this.gpu;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const make = (size: number) => device.createBuffer({ size, usage });
    const { arena, weights, outputs } = this.commands;
    this.buffers[Pool.ARENA] = arena.map(make);
    this.buffers[Pool.WEIGHTS] = weights.map(make);
    const bytes = outputs.reduce((sum, { window }) => sum + Math.ceil(window.bytes / 8) * 8, 0);
    const mapped = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    this.staging = device.createBuffer({ size: Math.max(bytes, 4), usage: mapped });
  }

  private write(upload: Layout & { window: Message<"Window"> }, tensor: Tensor, name: string): void {
    const { window } = upload;
    const bytes = encode(tensor, upload, name);
    this.gpu.device.queue.writeBuffer(this.buffer(window), window.offset, bytes);
  }

  /** Compiles the kernels, while weights may still arrive. */
  async prepare(): Promise<void> {
    const { kernels, launches } = this.commands;
    const pipelines = await Promise.all(kernels.map((kernel) => this.gpu.pipeline(kernel)));
    this.steps = launches.map((launch) => {
      const kernel = kernels[launch.kernel];
      const pipeline = pipelines[launch.kernel];
      if (kernel === undefined || pipeline === undefined) {
        throw new SplamError("artifact", `a launch names kernel ${launch.kernel}, which is missing`);
      }
      const entries = launch.arguments.map((window, binding): GPUBindGroupEntry => ({
        binding,
        resource: { buffer: this.buffer(window), offset: window.offset, size: window.bytes },
      }));
      const layout = this.gpu.layout(kernel.bindings);
      const group = this.gpu.device.createBindGroup({ layout, entries });
      return { pipeline, group, grid: launch.grid };
    });
  }

  /** Submits all launches, two submissions at a time. */
  private async launch(signal: AbortSignal | undefined): Promise<void> {
    const { device } = this.gpu;
    const { launches } = this.commands;
    let before: Promise<void> = Promise.resolve();
    let next = 0;
    while (next < this.steps.length) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      let flops = 0;
      const first = next;
      do {
        const { pipeline, group, grid } = this.steps[next] as (typeof this.steps)[number];
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(grid[0] ?? 1, grid[1] ?? 1, grid[2] ?? 1);
        flops += launches[next]?.flops ?? 0;
        next++;
      } while (
        next < this.steps.length &&
        next - first < BATCH &&
        flops + (launches[next]?.flops ?? 0) <= this.gpu.flops
      );
      pass.end();
      await before;
      signal?.throwIfAborted();
      const started = performance.now();
      device.queue.submit([encoder.finish()]);
      before = device.queue.onSubmittedWorkDone().then(() => {
        this.gpu.measured(flops, performance.now() - started);
      });
    }
    await before;
    signal?.throwIfAborted();
  }

  private async read(wanted: readonly string[]): Promise<Map<string, Tensor>> {
    const { device } = this.gpu;
    const staging = this.staging as GPUBuffer;
    const encoder = device.createCommandEncoder();
    const places: [Message<"Port">, number][] = [];
    let at = 0;
    for (const port of this.commands.outputs) {
      if (!wanted.includes(port.name)) continue;
      const { window } = port;
      encoder.copyBufferToBuffer(this.buffer(window), window.offset, staging, at, window.bytes);
      places.push([port, at]);
      // Ranges of a mapped buffer begin at multiples of 8 bytes.
      at += Math.ceil(window.bytes / 8) * 8;
    }
    const missing = wanted.find((name) => !places.some(([port]) => port.name === name));
    if (missing !== undefined) {
      throw new SplamError("unsupported", `the result ${missing} of ${this.commands.name} is not on the GPU`);
    }
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ, 0, at);
    const results = new Map<string, Tensor>();
    for (const [port, offset] of places) {
      const bytes = staging.getMappedRange(offset, port.window.bytes).slice(0);
      const count = port.shape.reduce((all, side) => all * side, 1);
      const values = floats(bytes, port.stored, count);
      results.set(port.name, {
        dtype: "f32",
        shape: port.shape,
        bytes: new Uint8Array(values.buffer),
      });
    }
    staging.unmap();
    return results;
  }

  private buffer(window: Message<"Window">): GPUBuffer {
    const buffer = this.buffers[window.pool]?.[window.buffer];
    if (buffer === undefined) {
      throw new SplamError("artifact", `a window of ${this.commands.name} is in no buffer`);
    }
    return buffer;
  }
}

/** Refuses what the host would have to compute for the GPU, and what only training has. */
function refuseHosted(component: string, commands: Message<"Commands">): void {
  if (commands.hosted.some((region) => region.stores.length > 0)) {
    const message = `${component} computes a part on the host, which browsers cannot do`;
    throw new SplamError("unsupported", `${message}: this model runs on the command line only`);
  }
  if (commands.states.length > 0 || commands.copies.length > 0) {
    throw new SplamError("unsupported", `${component} keeps states, as training does`);
  }
}
