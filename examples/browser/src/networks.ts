/**
 * The networks of a pipeline on a GPU.
 *
 * Takes an artifact and a device; gives networks that run on tensors by name. A network in stages
 * remembers what depends on inputs that seldom change, as `runtime::staged` does.
 */

import type { Artifact } from "./artifact.js";
import type { Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import { megabytes } from "./megabytes.js";
import { Program, type Gpu } from "./program.js";

/** Timesteps whose results are remembered. */
const REMEMBERED_MAX: Record<string, number> = { text: 1, time: 64 };

interface Stage {
  program: Program;
  results: string[];
  remembered_max: number;
  remembered: { key: string; results: Map<string, Tensor> }[];
}

/** A network, in one part or in stages. */
export class Network {
  private constructor(
    private readonly stages: Stage[],
    private readonly body: Program,
  ) {}

  /** Loads a program of the artifact. */
  static async load(
    artifact: Artifact,
    gpu: Gpu,
    [component, name]: [string, string],
    signal: AbortSignal | undefined,
  ): Promise<Network> {
    const { device } = gpu;
    device.pushErrorScope("out-of-memory");
    const programs: Program[] = [];
    let failure: unknown;
    let network: Network | undefined;
    try {
      const stages: Stage[] = [];
      for (const { stage, commands, constant } of artifact.parts(component, name)) {
        const program = Program.of(gpu, component, commands, constant);
        programs.push(program);
        const results = commands.outputs.map((port) => port.name);
        stages.push({
          program,
          results,
          remembered_max: REMEMBERED_MAX[stage] ?? 1,
          remembered: [],
        });
      }
      const names = new Set(programs.flatMap((program) => [...program.weights]));
      const take = (weight: string, tensor: Tensor) => {
        programs.forEach((program) => program.take(weight, tensor));
      };
      const prepared = Promise.all(programs.map((program) => program.prepare()));
      // A refusal that comes while shards arrive is told when they are there.
      prepared.catch(() => undefined);
      await artifact.weights(component, names, take, signal);
      await prepared;
      const body = stages.pop() as Stage;
      network = new Network(stages, body.program);
    } catch (error) {
      failure = error;
    }
    const short = await device.popErrorScope().catch(() => null);
    if (short !== null || network === undefined) {
      programs.forEach((program) => program.dispose());
      if (short === null) throw failure;
      const bytes = artifact.program(component, name).peak_bytes;
      const message = `the GPU has no memory for ${component}, which needs ${megabytes(bytes)}`;
      throw new SplamError("out-of-memory", `${message}: close other pages, or compile with --dtype f16`);
    }
    return network;
  }

  /** Runs it; gives the results that `wanted` names. */
  async run(
    inputs: ReadonlyMap<string, Tensor>,
    wanted: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<Map<string, Tensor>> {
    const values = new Map(inputs);
    for (const stage of this.stages) {
      for (const [name, tensor] of await this.results(stage, values, signal)) {
        values.set(name, tensor);
      }
    }
    return this.body.run(values, wanted, signal);
  }

  /** Frees its buffers. */
  dispose(): void {
    [...this.stages.map((stage) => stage.program), this.body].forEach((own) => own.dispose());
  }

  private async results(
    stage: Stage,
    values: ReadonlyMap<string, Tensor>,
    signal: AbortSignal | undefined,
  ): Promise<Map<string, Tensor>> {
    const key = stage.program.inputs.map((name) => digits(values.get(name))).join(" ");
    const place = stage.remembered.findIndex((own) => own.key === key);
    let [known] = place < 0 ? [] : stage.remembered.splice(place, 1);
    if (known === undefined) {
      known = { key, results: await stage.program.run(values, stage.results, signal) };
    }
    stage.remembered.unshift(known);
    stage.remembered.length = Math.min(stage.remembered.length, stage.remembered_max);
    return known.results;
  }
}

/** All bits of a tensor as a text. */
function digits(tensor: Tensor | undefined): string {
  if (tensor === undefined) return "";
  let text = "";
  for (let at = 0; at < tensor.bytes.length; at += 8192) {
    text += String.fromCharCode(...tensor.bytes.subarray(at, at + 8192));
  }
  return text;
}
