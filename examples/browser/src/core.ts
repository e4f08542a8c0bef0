/**
 * The core: sampler tables, noise and the sampler's step, computed by the same code as on the
 * command line.
 *
 * Takes the bytes of `core.wasm`; gives calls with plain data. It adds the sentences that the core
 * leaves out.
 */

import { SplamError } from "./error.js";

interface Exports {
  memory: WebAssembly.Memory;
  reserve(length: number): number;
  result(): number;
  result_length(): number;
  configure(): number;
  samplers(): number;
  tabulate(steps: number): number;
  begin(
    torchCpu: number, seed: bigint, batch: number, channels: number, height: number, width: number,
  ): number;
  network_input(call: number): number;
  advance(call: number, isGuided: number, scale: number, rescale: number): number;
  estimate(): number;
  embed_guidance(scale: number, width: number): number;
}

/** The numbers of `fault.rs`. */
const Fault = {
  NAME: 2, CLASS: 3, OPTION: 4, VALUE: 5, STEPS: 6, NOT_FINITE: 7, NOISE_SCHEDULE: 8, SIZE: 9,
  NOT_A_NUMBER: 10,
} as const;

/** Guidance in the standard form, see the command line's `--cfg-scale` and `--guidance-rescale`. */
export interface Guidance {
  scale: number;
  rescale: number;
}

/** What a run is configured by. */
export interface SamplerSettings {
  /** The text of `scheduler_config.json`. */
  scheduler: string;
  /** The class that the index of the pipeline names for it. */
  schedulerClass: string;
  /** The class of the pipeline. */
  pipelineClass: string;
  /** A sampler's name; empty for the scheduler's own. */
  sampler: string;
}

/** One instance of the core, for one run at a time. */
export class Core {
  private constructor(private readonly exports: Exports) {}

  /** Makes an instance from the compiled module. */
  static async of(module: WebAssembly.Module): Promise<Core> {
    const instance = await WebAssembly.instantiate(module, {});
    return new Core(instance.exports as unknown as Exports);
  }

  /** The names of all samplers. */
  samplers(): string[] {
    this.exports.samplers();
    return this.text().split("\n");
  }

  /** Chooses a sampler; gives its name. */
  configure(settings: SamplerSettings): string {
    const { scheduler, schedulerClass, pipelineClass, sampler } = settings;
    const fields = new Fields();
    [schedulerClass, pipelineClass, sampler].forEach((text) => fields.text(text));
    fields.options(parseScheduler(scheduler));
    this.give(fields.bytes());
    const fault = this.exports.configure();
    if (fault === 0) return this.text();
    if (fault === Fault.NAME) {
      const known = this.samplers().join(", ");
      throw new SplamError("option", `there is no sampler "${sampler}"; expected one of ${known}`);
    }
    throw refused(fault, sampler || schedulerClass);
  }

  /** Makes the table for a number of steps; gives the timestep of each call of the network. */
  tabulate(steps: number, sampler: string): Float64Array {
    if (!Number.isInteger(steps) || steps < 1) {
      throw new SplamError("option", `steps is ${steps}; expected a whole number from 1`);
    }
    const fault = this.exports.tabulate(steps);
    if (fault === Fault.STEPS) {
      const message = `steps is ${steps}, which the sampler ${sampler} cannot take with this model`;
      throw new SplamError("option", `${message}: choose fewer, or another sampler`);
    }
    if (fault !== 0) throw refused(fault, sampler);
    return new Float64Array(this.bytes().buffer);
  }

  /** Draws the first latents `[batch, channels, height, width]` of a seed. */
  begin(rng: "philox" | "torch-cpu", seed: bigint, shape: [number, number, number, number]): void {
    const fault = this.exports.begin(rng === "torch-cpu" ? 1 : 0, seed, ...shape);
    if (fault !== 0) throw refused(fault, "");
  }

  /** What the network sees at a call, of the latents' shape. */
  networkInput(call: number): Float32Array {
    const fault = this.exports.network_input(call);
    if (fault !== 0) throw refused(fault, "");
    return new Float32Array(this.bytes().buffer);
  }

  /**
   * Takes a step with the network's answer, which with guidance has two halves, the negative one
   * first; gives the new latents.
   */
  advance(call: number, answer: Float32Array, guidance: Guidance | undefined): Float32Array {
    this.give(new Uint8Array(answer.buffer, answer.byteOffset, answer.byteLength));
    const { scale, rescale } = guidance ?? { scale: 1, rescale: 0 };
    const fault = this.exports.advance(call, guidance === undefined ? 0 : 1, scale, rescale);
    if (fault === Fault.NOT_A_NUMBER) {
      const message = `the network's answer at step ${call + 1} holds NaN or infinity`;
      throw new SplamError("not-finite", `${message}: compile the model with --dtype f32`);
    }
    if (fault !== 0) throw refused(fault, "");
    return new Float32Array(this.bytes().buffer);
  }

  /** The last step's estimate of the clean latents, of the latents' shape. */
  estimate(): Float32Array {
    const fault = this.exports.estimate();
    if (fault !== 0) throw refused(fault, "");
    return new Float32Array(this.bytes().buffer);
  }

  /** The embedding `[width]` of a guidance scale, for a network that takes it. */
  embedGuidance(scale: number, width: number): Float32Array {
    this.exports.embed_guidance(scale, width);
    return new Float32Array(this.bytes().buffer);
  }

  private give(bytes: Uint8Array): void {
    const place = this.exports.reserve(bytes.length);
    new Uint8Array(this.exports.memory.buffer, place, bytes.length).set(bytes);
  }

  private bytes(): Uint8Array<ArrayBuffer> {
    const length = this.exports.result_length();
    return new Uint8Array(this.exports.memory.buffer, this.exports.result(), length).slice();
  }

  private text(): string {
    return new TextDecoder().decode(this.bytes());
  }
}

function refused(fault: number, sampler: string): SplamError {
  const own = sampler === "" ? "the sampler" : `the sampler ${sampler}`;
  switch (fault) {
    case Fault.CLASS:
      return new SplamError("unsupported", `${own} is not supported; choose another one`);
    case Fault.OPTION:
    case Fault.VALUE:
    case Fault.NOISE_SCHEDULE:
      return new SplamError("option", `${own} cannot take the options of this model's scheduler`);
    case Fault.NOT_FINITE:
      return new SplamError("option", `${own} has no finite coefficients for this number of steps`);
    case Fault.SIZE:
      return new SplamError("artifact", "the latents of the artifact are too large");
    default:
      return new SplamError("state", `the core refused a call (${fault})`);
  }
}

/** Reads a scheduler's file, in which Python writes words where JSON allows no number. */
function parseScheduler(text: string): Record<string, unknown> {
  const strict = text.replace(
    /"(?:[^"\\]|\\.)*"|-?Infinity|NaN/gs,
    (found) => (found.startsWith('"') ? found : `"${found}"`),
  );
  const options: unknown = JSON.parse(strict);
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new SplamError("artifact", "the scheduler's configuration is not a JSON object");
  }
  return options as Record<string, unknown>;
}

/** Writes what `fields.rs` reads. */
class Fields {
  private readonly parts: Uint8Array[] = [];

  text(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.count(bytes.length);
    this.parts.push(bytes);
  }

  options(options: Record<string, unknown>): void {
    const entries = Object.entries(options);
    this.count(entries.length);
    for (const [name, value] of entries) {
      this.text(name);
      this.value(value);
    }
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  private value(value: unknown): void {
    const kind = (number: number) => this.parts.push(Uint8Array.of(number));
    if (value === null) kind(0);
    else if (typeof value === "boolean") kind(value ? 2 : 1);
    else if (typeof value === "number") {
      kind(3);
      this.parts.push(new Uint8Array(Float64Array.of(value).buffer));
    } else if (typeof value === "string") {
      kind(4);
      this.text(value);
    } else if (Array.isArray(value)) {
      kind(5);
      this.count(value.length);
      value.forEach((item) => this.value(item));
    } else kind(6);
  }

  private count(count: number): void {
    this.parts.push(new Uint8Array(Uint32Array.of(count).buffer));
  }
}
