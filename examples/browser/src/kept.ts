/**
 * The models that a browser keeps.
 *
 * Beside the files there is a record of each model: its address, and the hashes of its files. A
 * file that two models share is removed with the last of them.
 */

import { sha256, type Manifest } from "./manifest.js";
import { openStore, type Store } from "./store.js";

/** A model that the browser keeps. */
export interface CachedModel {
  /** The address of its manifest. */
  url: string;
  bytes: number;
}

interface ModelRecord extends CachedModel {
  files: string[];
}

const RECORD = "model-";

/** Notes that all files of a model are kept. */
export async function remember(store: Store, url: string, manifest: Manifest): Promise<void> {
  const entries = [...Object.values(manifest.files), ...(manifest.shards ?? [])];
  const record: ModelRecord = {
    url,
    bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0),
    files: entries.map((entry) => entry.sha256),
  };
  const name = await recordName(url);
  await store.write(name, new TextEncoder().encode(JSON.stringify(record)));
}

/** The models that the browser keeps. */
export async function cached(): Promise<CachedModel[]> {
  const store = await openStore();
  if (store === undefined) return [];
  return (await records(store)).map(({ url, bytes }) => ({ url, bytes }));
}

/** Removes a model by the address of its manifest, or everything. */
export async function remove(url?: string): Promise<void> {
  const store = await openStore();
  if (store === undefined) return;
  if (url === undefined) {
    for (const name of await store.names()) await store.remove(name);
    return;
  }
  const all = await records(store);
  const others = all.filter((record) => record.url !== url);
  const shared = new Set(others.flatMap((record) => record.files));
  const own = all.filter((record) => record.url === url).flatMap((record) => record.files);
  for (const name of own.filter((file) => !shared.has(file))) {
    await store.remove(name);
    await store.remove(`${name}.part`);
  }
  await store.remove(await recordName(url));
}

async function recordName(url: string): Promise<string> {
  return RECORD + (await sha256(new TextEncoder().encode(url)));
}

async function records(store: Store): Promise<ModelRecord[]> {
  const found: ModelRecord[] = [];
  for (const name of await store.names()) {
    const isRecord = name.startsWith(RECORD) && !name.endsWith(".part");
    const bytes = isRecord ? await store.read(name) : undefined;
    if (bytes !== undefined) found.push(JSON.parse(new TextDecoder().decode(bytes)) as ModelRecord);
  }
  return found;
}
