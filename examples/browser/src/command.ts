/**
 * A run as the command that makes the same picture.
 */

import type { Settings } from "./events.js";

/** The command for a shell; `model` is the artifact's folder. */
export function commandOf(settings: Settings, model: string): string {
  const { prompt, negativePrompt, steps, sampler, guidanceScale, guidanceRescale, seed, rng } = settings;
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    `splamc sample ${quoted(model)} -p ${quoted(prompt)}`,
    ...(negativePrompt === "" ? [] : [`-n ${quoted(negativePrompt)}`]),
    `--sampler ${sampler} --steps ${steps} --cfg-scale ${guidanceScale} -s ${seed}`,
    ...(guidanceRescale === 0 ? [] : [`--guidance-rescale ${guidanceRescale}`]),
    ...(rng === "philox" ? [] : [`--rng ${rng}`]),
  ].join(" ");
}
