/**
 * What a page and its worker say to each other.
 *
 * Each request has a number, which its answers carry.
 */

import type { Progress } from "./engine.js";
import type { PlainError } from "./error.js";
import type { GenerateEvent, Request } from "./events.js";
import type { CacheMode } from "./files.js";
import type { CachedModel } from "./kept.js";
import type { Manifest } from "./manifest.js";

/** From the page. */
export type ToWorker =
  | { id: number; type: "open"; url: string; cache: CacheMode; core: string }
  | { id: number; type: "generate"; request: Request }
  | { id: number; type: "cached" }
  | { id: number; type: "remove"; url: string | undefined }
  | { id: number; type: "dispose" }
  /** Aborts the request of that number. */
  | { id: number; type: "abort" };

/** What a request ends with. */
export interface Opened {
  manifest: Manifest;
  samplers: string[];
}

/** From the worker. */
export type FromWorker =
  | { id: number; type: "progress"; progress: Progress }
  | { id: number; type: "event"; event: GenerateEvent }
  | { id: number; type: "done"; result: Opened | CachedModel[] | undefined }
  | { id: number; type: "failed"; error: PlainError };
