/**
 * A worker, and the requests that it is answering.
 */

import { revived, SplamError } from "./error.js";
import type { FromWorker, ToWorker } from "./protocol.js";

type WithoutId<T> = T extends { id: number } ? Omit<T, "id"> : never;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  hear: ((answer: FromWorker) => void) | undefined;
}

/** A connection to a worker of its own. */
export class Link {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private next = 1;

  constructor() {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.hear(data);
    this.worker.onerror = (event) => this.fail(event.message || "the worker cannot be loaded");
  }

  /** Asks the worker; `hear` is told of what comes before the end. */
  ask<T>(
    message: WithoutId<ToWorker>,
    signal?: AbortSignal,
    hear?: (answer: FromWorker) => void,
  ): Promise<T> {
    const id = this.next++;
    const abort = () => this.worker.postMessage({ id, type: "abort" } satisfies ToWorker);
    return new Promise<T>((resolve, reject) => {
      signal?.throwIfAborted();
      signal?.addEventListener("abort", abort, { once: true });
      this.waiting.set(id, { resolve: resolve as (result: unknown) => void, reject, hear });
      this.worker.postMessage({ ...message, id });
    }).finally(() => signal?.removeEventListener("abort", abort));
  }

  /** Ends the worker; requests that it did not answer fail. */
  close(): void {
    this.worker.terminate();
    this.fail("the pipeline was disposed of");
  }

  private hear(answer: FromWorker): void {
    const own = this.waiting.get(answer.id);
    if (own === undefined) return;
    if (answer.type === "done" || answer.type === "failed") this.waiting.delete(answer.id);
    if (answer.type === "done") own.resolve(answer.result);
    else if (answer.type === "failed") own.reject(revived(answer.error));
    else own.hear?.(answer);
  }

  private fail(message: string): void {
    this.waiting.forEach((own) => own.reject(new SplamError("state", message)));
    this.waiting.clear();
  }
}
