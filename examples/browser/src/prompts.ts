/**
 * Prompts to what the denoising network is conditioned on.
 *
 * Takes texts; gives a tensor for each input of the denoising network that stays the same in all
 * steps, as `runtime::pipeline` does.
 */

import type { Artifact } from "./artifact.js";
import type { Core } from "./core.js";
import { concatenated, floatTensor, numbers, type Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import type { GenerateEvent, Settings } from "./events.js";
import type { Guide } from "./guide.js";
import { componentOf, type PromptEncoder } from "./manifest.js";
import type { Network } from "./networks.js";
import { Tokenizer } from "./tokenizer.js";

/** What one encoder makes of prompts. */
interface Text {
  hidden: Tensor;
  pooled?: Tensor;
}

/** What an input is fed: its shape and its numbers. */
type Rows = readonly [shape: number[], values: Float32Array];

/** The tokenizers and text encoders of a pipeline. */
export class Prompts {
  private constructor(
    private readonly artifact: Artifact,
    private readonly core: Core,
    private readonly tokenizers: Tokenizer[],
    private readonly network: (component: string, name: string) => Promise<Network>,
  ) {}

  /** Reads the tokenizers; `network` gives a loaded network. */
  static async open(
    artifact: Artifact,
    core: Core,
    network: (component: string, name: string) => Promise<Network>,
    signal: AbortSignal | undefined,
  ): Promise<Prompts> {
    const { encoders } = artifact.manifest.pipeline.prompts;
    const tokenizers: Tokenizer[] = [];
    for (const { tokenizer } of encoders) {
      tokenizers.push(new Tokenizer(await artifact.tokenizer(tokenizer, signal)));
    }
    return new Prompts(artifact, core, tokenizers, network);
  }

  /** What the denoising network is fed, by the name of its input; a negative half comes first. */
  async encode(
    settings: Settings,
    guide: Guide,
    signal: AbortSignal | undefined,
    emit: (event: GenerateEvent) => void,
  ): Promise<Map<string, Tensor>> {
    const { prompts } = this.artifact.manifest.pipeline;
    const positive: Text[] = [];
    const negative: Text[] = [];
    for (const [number, encoder] of prompts.encoders.entries()) {
      const tokenizer = this.tokenizers[number] as Tokenizer;
      const { ids, tokenCount, truncated } = tokenizer.encode(settings.prompt);
      if (number === 0) emit({ type: "text", tokens: tokenCount, truncated });
      const text = await this.encodeIds(encoder, ids, signal);
      positive.push(text);
      if (!guide.doubled) continue;
      const isZero = prompts.absent_is_zero && settings.negativePrompt === "";
      const others = tokenizer.encode(settings.negativePrompt).ids;
      negative.push(isZero ? zeros(text) : await this.encodeIds(encoder, others, signal));
    }
    const conditions = new Map<string, Tensor>();
    for (const { name, role } of componentOf(this.artifact.manifest, "denoise").inputs) {
      const own = this.rows(role, positive, false, guide);
      if (own === undefined) continue;
      const [[batch = 1, ...rest], values] = own;
      const other = guide.doubled ? this.rows(role, negative, true, guide) : undefined;
      const tensor =
        other === undefined
          ? floatTensor([batch, ...rest], values)
          : floatTensor([2 * batch, ...rest], concatenated([other[1], values]));
      conditions.set(name, tensor);
    }
    return conditions;
  }

  /** What the input of a role is fed for some prompts. */
  private rows(role: string | null, texts: Text[], isNegative: boolean, guide: Guide): Rows | undefined {
    switch (role) {
      case "hidden_states":
        return sideBySide(texts);
      case "pooled_text": {
        const pooled = texts.find((text) => text.pooled !== undefined)?.pooled;
        return pooled === undefined ? undefined : [pooled.shape, numbers(pooled)];
      }
      case "size_ids":
        return this.repeated(this.sizeIds(isNegative));
      case "guidance_scale":
        return this.repeated(this.core.embedGuidance(guide.scale, guide.embeddedWidth ?? 0));
      default:
        return undefined;
    }
  }

  /** One row for each picture of the batch. */
  private repeated(row: Float32Array): Rows {
    const { batch } = this.artifact.manifest.picture;
    return [[batch, row.length], concatenated(Array.from({ length: batch }, () => row))];
  }

  /** The numbers of SDXL's size conditioning: the picture's own size, cropped nowhere. */
  private sizeIds(isNegative: boolean): Float32Array {
    const { picture, pipeline } = this.artifact.manifest;
    const { height, width } = picture;
    const values: Record<string, number> = {
      original_height: height,
      original_width: width,
      target_height: height,
      target_width: width,
      aesthetics_score: isNegative ? 2.5 : 6,
    };
    return Float32Array.from(pipeline.prompts.size_ids, (id) => values[id] ?? 0);
  }

  private async encodeIds(
    encoder: PromptEncoder,
    ids: number[],
    signal: AbortSignal | undefined,
  ): Promise<Text> {
    const { component, hidden, pooled, vocabulary = Infinity } = encoder;
    const beyond = ids.find((id) => id >= vocabulary);
    if (beyond !== undefined) {
      const message = `the prompt has the token ${beyond}, but ${component} knows ${vocabulary}`;
      throw new SplamError("artifact", `${message}: the tokenizer may be another model's`);
    }
    const { batch } = this.artifact.manifest.picture;
    const rows = Array.from({ length: batch }, () => ids).flat();
    const bytes = new Uint8Array(BigInt64Array.from(rows, BigInt).buffer);
    const input: Tensor = { dtype: "i64", shape: [batch, ids.length], bytes };
    const wanted = pooled === undefined ? [hidden] : [hidden, pooled];
    const network = await this.network(component, "text");
    const results = await network.run(new Map([["input_ids", input]]), wanted, signal);
    const text: Text = { hidden: results.get(hidden) as Tensor };
    if (pooled !== undefined) text.pooled = results.get(pooled) as Tensor;
    return text;
  }
}

/** Zeros in place of all features. */
function zeros(text: Text): Text {
  const empty = (tensor: Tensor): Tensor => ({ ...tensor, bytes: new Uint8Array(tensor.bytes.length) });
  const none: Text = { hidden: empty(text.hidden) };
  if (text.pooled !== undefined) none.pooled = empty(text.pooled);
  return none;
}

/** The features of all encoders, those of a token side by side. */
function sideBySide(texts: Text[]): Rows {
  const parts = texts.map(({ hidden }) => [numbers(hidden), hidden.shape.at(-1) ?? 0] as const);
  const [batch = 1, tokens = 1] = texts[0]?.hidden.shape ?? [];
  const width = parts.reduce((sum, [, own]) => sum + own, 0);
  const all = new Float32Array(batch * tokens * width);
  let at = 0;
  for (let token = 0; token < batch * tokens; token++) {
    for (const [part, own] of parts) {
      all.set(part.subarray(token * own, (token + 1) * own), at);
      at += own;
    }
  }
  return [[batch, tokens, width], all];
}
