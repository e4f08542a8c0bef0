/**
 * What a browser can run, asked before anything is downloaded.
 *
 * Takes what a manifest requires; gives an adapter, or an error that names the number that is too
 * small. It asks for the required limits only.
 */

import { SplamError } from "./error.js";
import type { Manifest } from "./manifest.js";

/** What this browser offers. */
export interface Capabilities {
  webgpu: boolean;
  /** The adapter's vendor and architecture, where the browser tells. */
  adapter?: string;
  features: string[];
  limits: Record<string, number>;
  /** Why there is no adapter. */
  reason?: string;
}

/** What the artifact needs, and what is missing. */
export interface Lack {
  /** The limit or feature, by its name in WebGPU. */
  what: string;
  wanted: number | string;
  found: number | string;
}

const NAMES = [
  "maxBufferSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
] as const;

/** Describes the adapter that a page would be given. */
export async function probe(): Promise<Capabilities> {
  try {
    const adapter = await requestAdapter();
    const limits = Object.fromEntries(NAMES.map((name) => [name, adapter.limits[name]]));
    const { vendor, architecture } = adapter.info;
    return {
      webgpu: true,
      adapter: [vendor, architecture].filter((part) => part !== "").join(" ") || "unnamed",
      features: [...adapter.features].sort(),
      limits,
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { webgpu: false, features: [], limits: {}, reason };
  }
}

/** The adapter, or an error that says why there is none. */
export async function requestAdapter(): Promise<GPUAdapter> {
  if (navigator.gpu === undefined) {
    const secure = isSecureContext ? "" : ": pages need https or localhost";
    const hint = "use a current Chrome, Edge, Safari or Firefox";
    throw new SplamError("no-webgpu", `this browser has no WebGPU${secure}; ${hint}`);
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    const message = "the browser has WebGPU, but found no GPU that it may use";
    throw new SplamError("no-adapter", `${message}: check chrome://gpu, or another browser`);
  }
  return adapter;
}

/** What an adapter or a device lacks for an artifact; empty if nothing. */
export function lacks(manifest: Manifest, gpu: GPUAdapter | GPUDevice): Lack[] {
  const { limits, features } = manifest.requirements;
  const granted = gpu.limits as unknown as Record<string, number>;
  const few = Object.entries(limits).map(([what, wanted]) => ({
    what,
    wanted,
    found: granted[what] ?? 0,
  }));
  const missing = features
    .filter((feature) => !gpu.features.has(feature))
    .map((what) => ({ what, wanted: "present", found: "missing" }));
  return [...few.filter((lack) => lack.found < lack.wanted), ...missing];
}

/** Refuses an adapter or a device that lacks something, with the numbers. */
export function expectEnough(manifest: Manifest, gpu: GPUAdapter | GPUDevice): void {
  const [first] = lacks(manifest, gpu);
  if (first === undefined) return;
  const message = `${first.what} is ${first.found}, but the model needs ${first.wanted}`;
  throw new SplamError("limits", `${message}: compile smaller pictures, or use another GPU`);
}

/** A device with the limits and features that the artifact requires, and no more. */
export async function requestDevice(manifest: Manifest): Promise<GPUDevice> {
  const adapter = await requestAdapter();
  expectEnough(manifest, adapter);
  const { limits, features } = manifest.requirements;
  const requiredLimits = Object.fromEntries(
    Object.entries(limits).filter(([name, wanted]) => wanted > (DEFAULTS[name] ?? 0)),
  );
  try {
    return await adapter.requestDevice({
      requiredLimits,
      requiredFeatures: features as GPUFeatureName[],
    });
  } catch (cause) {
    throw new SplamError("limits", "the GPU does not grant the limits that it offers", { cause });
  }
}

/** What every device has without being asked. */
const DEFAULTS: Record<string, number> = {
  maxBufferSize: 268435456,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeWorkgroupsPerDimension: 65535,
  maxStorageBufferBindingSize: 134217728,
  maxStorageBuffersPerShaderStage: 8,
};
