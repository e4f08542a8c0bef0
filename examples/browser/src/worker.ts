/**
 * The worker: an engine behind messages, so that a page stays responsive.
 */

import { Engine } from "./engine.js";
import { plain } from "./error.js";
import { cached, remove } from "./kept.js";
import type { FromWorker, ToWorker } from "./protocol.js";

/** The part of a worker's global scope that is used here. */
const scope = globalThis as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};
const running = new Map<number, AbortController>();
let engine: Engine | undefined;

function say(message: FromWorker): void {
  scope.postMessage(message);
}

async function answer(message: ToWorker, signal: AbortSignal): Promise<FromWorker> {
  const { id } = message;
  const done = (result: Extract<FromWorker, { type: "done" }>["result"]): FromWorker => ({
    id, type: "done", result,
  });
  switch (message.type) {
    case "open": {
      const { cache, core } = message;
      const onProgress = (progress: Extract<FromWorker, { type: "progress" }>["progress"]) =>
        say({ id, type: "progress", progress });
      engine = await Engine.open(message.url, { cache, core, signal, onProgress });
      return done({ manifest: engine.manifest, samplers: engine.samplers() });
    }
    case "generate":
      await engine?.generate(message.request, signal, (event) => say({ id, type: "event", event }));
      return done(undefined);
    case "cached":
      return done(await cached());
    case "remove":
      await remove(message.url);
      return done(undefined);
    case "dispose":
      engine?.dispose();
      return done(undefined);
    case "abort":
      return done(undefined);
  }
}

scope.onmessage = async ({ data: message }: MessageEvent<ToWorker>) => {
  if (message.type === "abort") {
    running.get(message.id)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(message.id, controller);
  try {
    say(await answer(message, controller.signal));
  } catch (error) {
    say({ id: message.id, type: "failed", error: plain(error) });
  } finally {
    running.delete(message.id);
  }
};
