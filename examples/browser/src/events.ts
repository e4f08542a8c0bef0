/**
 * What pictures are made from, and what happens while they are made: plain data that pass between a
 * worker and its page.
 */

/** What pictures are made from; what is left out is what `splamc sample` would take. */
export interface Request {
  prompt: string;
  negativePrompt?: string;
  steps?: number;
  /** A sampler's name; the model's own if none is given. */
  sampler?: string;
  /** The standard form: 1 is no guidance. */
  guidanceScale?: number;
  guidanceRescale?: number;
  seed?: number | bigint;
  rng?: "philox" | "torch-cpu";
  /** Decode the picture so far after every that many steps; 0, the default, for none. */
  preview?: number;
}

/** What a run was made with, nothing left out. */
export interface Settings {
  prompt: string;
  negativePrompt: string;
  steps: number;
  sampler: string;
  guidanceScale: number;
  guidanceRescale: number;
  seed: bigint;
  rng: "philox" | "torch-cpu";
}

/** The end of a run. */
export interface Picture {
  type: "image";
  /** The first picture. */
  image: ImageData;
  /** All pictures of the batch that the model was compiled for. */
  images: ImageData[];
  /** The text that PNG files carry. */
  parameters: string;
  settings: Settings;
  /** The last latents `[batch, channels, height, width]`. */
  latents: Float32Array;
}

/** What happens in a run. */
export type GenerateEvent =
  | { type: "text"; tokens: number; truncated: boolean }
  | { type: "step"; step: number; steps: number; milliseconds: number; preview?: ImageData }
  | { type: "recovered" }
  | Picture;
