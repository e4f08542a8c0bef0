/**
 * Where a browser keeps files: verified ones by their hash, and those that are still on their way.
 *
 * The origin's private file system where workers can write to it, the Cache API elsewhere, which
 * keeps whole files only. A file gets its name when its content was verified, so that what has a
 * name is good.
 */

const FOLDER = "splamc";
const CACHE = "splamc";

/** A file that is on its way. */
export interface Arrival {
  /** Reads what has arrived earlier into `into`; gives its length. */
  resume(into: Uint8Array): number;
  /** Keeps more, at an offset. */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number): void;
  /** Gives the whole content its name. */
  commit(content: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Closes it; what has arrived stays. */
  close(): void;
  /** Removes what has arrived. */
  discard(): Promise<void>;
}

/** Files by name. */
export interface Store {
  read(name: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  has(name: string): Promise<boolean>;
  begin(name: string): Promise<Arrival>;
  write(name: string, content: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(name: string): Promise<void>;
  names(): Promise<string[]>;
}

/** The best store that this place has; none where a page may store nothing. */
export async function openStore(): Promise<Store | undefined> {
  const canWrite =
    typeof FileSystemFileHandle !== "undefined" &&
    "createSyncAccessHandle" in FileSystemFileHandle.prototype &&
    "move" in FileSystemFileHandle.prototype &&
    "WorkerGlobalScope" in globalThis;
  try {
    if (canWrite) {
      const root = await navigator.storage.getDirectory();
      return new FileStore(await root.getDirectoryHandle(FOLDER, { create: true }));
    }
    if (typeof caches !== "undefined") return new CacheStore(await caches.open(CACHE));
  } catch {
    // A private window may have the interfaces and refuse their use.
  }
  return undefined;
}

/** Whether an error says that the browser stores no more. */
export function isQuota(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

interface MovableHandle extends FileSystemFileHandle {
  move(name: string): Promise<void>;
}

interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

class FileStore implements Store {
  constructor(private readonly folder: FileSystemDirectoryHandle) {}

  async read(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const handle = await this.handle(name);
    if (handle === undefined) return undefined;
    return new Uint8Array(await (await handle.getFile()).arrayBuffer());
  }

  async has(name: string): Promise<boolean> {
    return (await this.handle(name)) !== undefined;
  }

  async begin(name: string): Promise<Arrival> {
    const part = `${name}.part`;
    const handle = (await this.folder.getFileHandle(part, { create: true })) as MovableHandle;
    const sync = (await (
      handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }
    ).createSyncAccessHandle());
    let isOpen = true;
    const close = () => {
      if (isOpen) sync.close();
      isOpen = false;
    };
    return {
      resume: (into) => sync.read(into.subarray(0, sync.getSize()), { at: 0 }),
      write: (bytes, offset) => {
        sync.write(bytes, { at: offset });
      },
      commit: async (content) => {
        sync.truncate(content.length);
        sync.flush();
        close();
        await handle.move(name);
      },
      close,
      discard: async () => {
        close();
        await this.remove(part);
      },
    };
  }

  async write(name: string, content: Uint8Array<ArrayBuffer>): Promise<void> {
    const part = await this.begin(name);
    try {
      part.write(content, 0);
      await part.commit(content);
    } finally {
      part.close();
    }
  }

  async remove(name: string): Promise<void> {
    await this.folder.removeEntry(name).catch(() => undefined);
  }

  async names(): Promise<string[]> {
    const names: string[] = [];
    const entries = this.folder as unknown as { keys(): AsyncIterable<string> };
    for await (const name of entries.keys()) names.push(name);
    return names;
  }

  private async handle(name: string): Promise<FileSystemFileHandle | undefined> {
    try {
      return await this.folder.getFileHandle(name);
    } catch {
      return undefined;
    }
  }
}

class CacheStore implements Store {
  constructor(private readonly cache: Cache) {}

  async read(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const response = await this.cache.match(this.url(name));
    return response === undefined ? undefined : new Uint8Array(await response.arrayBuffer());
  }

  async has(name: string): Promise<boolean> {
    return (await this.cache.match(this.url(name))) !== undefined;
  }

  begin(name: string): Promise<Arrival> {
    return Promise.resolve({
      resume: () => 0,
      write: () => undefined,
      commit: (content) => this.write(name, content),
      close: () => undefined,
      discard: () => Promise.resolve(),
    });
  }

  async write(name: string, content: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.cache.put(this.url(name), new Response(content));
  }

  async remove(name: string): Promise<void> {
    await this.cache.delete(this.url(name));
  }

  async names(): Promise<string[]> {
    const requests = await this.cache.keys();
    return requests.map((request) => decodeURIComponent(new URL(request.url).pathname.slice(8)));
  }

  /** The Cache API has addresses for names. */
  private url(name: string): string {
    return `${location.origin}/splamc/${encodeURIComponent(name)}`;
  }
}
