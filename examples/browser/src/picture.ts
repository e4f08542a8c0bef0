/**
 * What comes out of the decoder as pictures, with the text that says how they were made.
 *
 * Takes tensors and settings; gives pixels and text as `splamc sample` writes them.
 */

import { numbers, type Tensor } from "./elements.js";
import { SplamError } from "./error.js";
import type { Settings } from "./events.js";

/** A picture of `[1, 3, height, width]` in [-1, 1], as diffusers' `VaeImageProcessor` rounds it. */
export function pixels(tensor: Tensor): ImageData {
  const values = numbers(tensor);
  const [, , height, width] = tensor.shape as [number, number, number, number];
  const image = new ImageData(width, height);
  const plane = width * height;
  for (let place = 0; place < plane; place++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = values[channel * plane + place] as number;
      if (!Number.isFinite(value)) {
        const message = "the decoder's picture holds NaN or infinity";
        throw new SplamError("not-finite", `${message}: compile the model with --dtype f32`);
      }
      image.data[4 * place + channel] = Math.round(Math.min(Math.max(value / 2 + 0.5, 0), 1) * 255);
    }
    image.data[4 * place + 3] = 255;
  }
  return image;
}

/** What made a picture: the model's name, and the program that compiled it, with its version. */
export interface Source {
  model: string;
  producer: string;
}

/** The text that A1111 and ComfyUI read, as `splamc sample` writes it. */
export function parametersOf(settings: Settings, image: ImageData, { model, producer }: Source): string {
  const { prompt, negativePrompt, steps, sampler, guidanceScale, seed } = settings;
  const negative = negativePrompt === "" ? "" : `Negative prompt: ${negativePrompt}\n`;
  return (
    `${prompt}\n${negative}Steps: ${steps}, Sampler: ${sampler}, CFG scale: ${guidanceScale}, ` +
    `Seed: ${seed}, Size: ${image.width}x${image.height}, Model: ${model}, Version: ${producer}`
  );
}
