/**
 * How guidance reaches the network, and what a run takes where nothing is said.
 *
 * Takes a model's description and a request; gives the numbers of guidance as `splamc sample` has
 * them.
 */

import { SplamError } from "./error.js";
import type { PipelineDescription } from "./manifest.js";

/** How guidance reaches the network. */
export interface Guide {
  scale: number;
  rescale: number;
  /** Whether the network answers for the negative prompt too. */
  doubled: boolean;
  /** The width of the embedded scale, for a network that takes it. */
  embeddedWidth: number | undefined;
}

/** Whether a sampler is one of distilled models. */
export function isFewStep(sampler: string): boolean {
  return ["splam", "lcm", "tcd", "perflow", "instaflow"].includes(sampler);
}

/** The steps where none are given. */
export function usualSteps(pipeline: PipelineDescription, sampler: string): number {
  return isFewStep(sampler) ? (pipeline.distilled?.steps ?? 4) : 20;
}

/** The guidance of a run. */
export function guideOf(
  pipeline: PipelineDescription,
  sampler: string,
  asked: { guidanceScale?: number | undefined; guidanceRescale?: number | undefined },
): Guide {
  const embeddedWidth = widthOf(pipeline);
  const usual = () => {
    if (sampler === "splam") return 1;
    if (embeddedWidth !== undefined) return 8.5;
    return isFewStep(sampler) ? 1 : pipeline.prompts.guidance_scale;
  };
  const { distilled } = pipeline;
  const scale = asked.guidanceScale ?? distilled?.guidance ?? usual();
  const rescale = asked.guidanceRescale ?? 0;
  if (!Number.isFinite(scale)) {
    throw new SplamError("option", `guidanceScale is ${scale}; expected a finite number`);
  }
  if (!(rescale >= 0 && rescale <= 1)) {
    throw new SplamError("option", `guidanceRescale is ${rescale}; expected 0 to 1`);
  }
  const reason = builtIn(pipeline, sampler);
  if (reason !== undefined && scale !== 1) {
    throw new SplamError("option", `guidanceScale is ${scale}, but ${reason}: leave it out, or pass 1`);
  }
  const doubled = embeddedWidth === undefined && scale > 1;
  return { scale, rescale, doubled, embeddedWidth };
}

/** Why a model takes no scale but 1, if it does not. */
function builtIn(pipeline: PipelineDescription, sampler: string): string | undefined {
  if (sampler === "splam") return "a SPLAM model has its guidance built in";
  const { distilled } = pipeline;
  if (distilled?.guidance !== 1) return undefined;
  const scale = distilled.distilled_guidance ?? "a fixed scale";
  return `the model was distilled by ${distilled.method} with guidance ${scale} built in`;
}

/** Features of the embedded guidance scale, if the denoising network takes one. */
function widthOf(pipeline: PipelineDescription): number | undefined {
  const denoiser = pipeline.components.find((own) => own.task === "denoise");
  const input = denoiser?.inputs.find((own) => own.role === "guidance_scale");
  const last = input?.shape.at(-1);
  if (typeof last !== "object" || last === null || !("fixed" in last)) return undefined;
  return last.fixed as number;
}
