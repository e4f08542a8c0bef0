/**
 * An artifact's files: fetched, resumed, verified and kept.
 *
 * Takes an address and a store; gives the content of files by their entries in the manifest. Two
 * tabs that want one file fetch it once. It never gives content whose hash differs.
 */

import { SplamError } from "./error.js";
import { sha256, type StoredFile } from "./manifest.js";
import { isQuota, type Store } from "./store.js";

/** Attempts to fetch a file before its host counts as gone. */
const ATTEMPTS = 5;
/** The pause after the first failed attempt, in milliseconds; it doubles with each. */
const PAUSE_MS = 200;

/** Whether files are kept: `true` where possible, `"required"` makes a full store an error. */
export type CacheMode = boolean | "required";

/** Fetches the files of one artifact. */
export class Files {
  private readonly counted = new Set<string>();
  /** Bytes that arrived or were kept. */
  loaded = 0;
  /** Whether everything so far is kept. */
  isKept: boolean;

  constructor(
    private readonly base: string,
    private readonly store: Store | undefined,
    private readonly mode: CacheMode,
    private readonly onBytes: (file: string, isCached: boolean) => void,
  ) {
    this.isKept = store !== undefined;
  }

  /** The content of a file. */
  async read(entry: StoredFile, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    const kept = await this.store?.read(entry.sha256);
    if (kept !== undefined && kept.length === entry.bytes) {
      this.count(entry, entry.bytes, true);
      return kept;
    }
    const fetchOnce = async () => {
      const meanwhile = await this.store?.read(entry.sha256);
      if (meanwhile?.length === entry.bytes) {
        this.count(entry, entry.bytes, true);
        return meanwhile;
      }
      return this.fetch(entry, signal);
    };
    if (this.store === undefined || navigator.locks === undefined) return fetchOnce();
    const options: LockOptions = signal === undefined ? {} : { signal };
    return navigator.locks.request(`splamc ${entry.sha256}`, options, fetchOnce) as Promise<
      Uint8Array<ArrayBuffer>
    >;
  }

  private async fetch(entry: StoredFile, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    const content = new Uint8Array(entry.bytes);
    const arrival = await this.begin(entry.sha256);
    try {
      let have = Math.min(arrival?.resume(content) ?? 0, entry.bytes);
      const resumed = have;
      const take = (bytes: Uint8Array<ArrayBuffer>, offset: number) => {
        content.set(bytes, offset);
        this.count(entry, offset + bytes.length, false);
        this.keep(() => arrival?.write(bytes, offset));
      };
      have = await this.download(entry, have, take, signal);
      if ((await sha256(content)) !== entry.sha256 && resumed > 0) {
        // What was kept of an earlier attempt may be damaged: once more, from the start.
        have = await this.download(entry, 0, take, signal);
      }
      const found = await sha256(content);
      if (found !== entry.sha256) {
        await arrival?.discard();
        throw new SplamError(
          "integrity",
          `${entry.file} is not what manifest.json says: its SHA-256 is ${found}; upload it again`,
        );
      }
      await this.keepAsync(async () => arrival?.commit(content));
      this.count(entry, have, false);
      return content;
    } finally {
      arrival?.close();
    }
  }

  /** Fetches from `have` on; goes on where a connection breaks. Gives the length. */
  private async download(
    entry: StoredFile,
    have: number,
    take: (bytes: Uint8Array<ArrayBuffer>, offset: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    let pause = PAUSE_MS;
    for (let attempt = 1; have < entry.bytes; attempt++) {
      const before = have;
      try {
        const headers: HeadersInit = have > 0 ? { Range: `bytes=${have}-` } : {};
        const response = await fetch(new URL(entry.file, this.base), {
          headers,
          // Names carry hashes, and the store keeps the content: the browser need not.
          cache: "no-store",
          signal: signal ?? null,
        });
        if (!response.ok || response.body === null) throw this.refused(entry, response);
        if (response.status !== 206) have = 0;
        const reader = response.body.getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          if (have + value.length > entry.bytes) {
            await reader.cancel();
            const message = `${entry.file} is longer than the ${entry.bytes} bytes of manifest.json`;
            throw new SplamError("integrity", `${message}: upload it again`);
          }
          take(value as Uint8Array<ArrayBuffer>, have);
          have += value.length;
        }
        if (have < entry.bytes) throw new TypeError("the connection ended early");
      } catch (cause) {
        signal?.throwIfAborted();
        if (cause instanceof SplamError) throw cause;
        if (have > before) attempt = 1;
        if (attempt >= ATTEMPTS) {
          const message = `${entry.file} cannot be fetched from ${this.base}`;
          throw new SplamError("network", `${message}: check the connection and try again`, { cause });
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause *= 2;
      }
    }
    return have;
  }

  private refused(entry: StoredFile, response: Response): SplamError {
    const status = `${response.status} ${response.statusText}`.trim();
    return new SplamError("network", `${response.url || entry.file} answers ${status}`);
  }

  private async begin(name: string) {
    if (this.store === undefined || !this.isKept) return undefined;
    const store = this.store;
    let arrival: Awaited<ReturnType<Store["begin"]>> | undefined;
    await this.keepAsync(async () => {
      arrival = await store.begin(name);
    });
    return arrival;
  }

  /** Stores something; a full store is an error only where files must be kept. */
  private keep(act: () => void): void {
    try {
      if (this.isKept) act();
    } catch (error) {
      this.full(error);
    }
  }

  private async keepAsync(act: () => Promise<void>): Promise<void> {
    try {
      if (this.isKept) await act();
    } catch (error) {
      this.full(error);
    }
  }

  private full(cause: unknown): void {
    if (!isQuota(cause)) throw cause;
    if (this.mode === "required") {
      const message = "the browser stores no more: remove models, or other sites' data, and try again";
      throw new SplamError("quota", message, { cause });
    }
    this.isKept = false;
  }

  private count(entry: StoredFile, bytes: number, isCached: boolean): void {
    if (this.counted.has(entry.sha256)) return;
    const own = this.arriving.get(entry.sha256) ?? 0;
    this.loaded += bytes - own;
    this.arriving.set(entry.sha256, bytes);
    if (bytes === entry.bytes) this.counted.add(entry.sha256);
    this.onBytes(entry.file, isCached);
  }

  private readonly arriving = new Map<string, number>();
}
