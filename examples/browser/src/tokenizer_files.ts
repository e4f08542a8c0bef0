/**
 * The files of a tokenizer's folder, and what they declare.
 *
 * Takes the texts of the files; gives the vocabulary, the merges, the special tokens and the length
 * as `runtime/src/tokenizer/files.rs` resolves them, which follows transformers 5. It builds no
 * tokenizer.
 */

import { SplamError } from "./error.js";

/** The texts of a tokenizer's files by name, such as `vocab.json`. */
export type TokenizerFiles = ReadonlyMap<string, string>;

/** A token that is found in the text before it is split. */
export interface AddedToken {
  content: string;
  lstrip: boolean;
  rstrip: boolean;
  single_word: boolean;
  normalized: boolean;
  special: boolean;
}

/** What the files say, resolved. */
export interface Declared {
  vocab: Map<string, number>;
  merges: [string, string][];
  start: string;
  end: string;
  unknown: string;
  padding: string;
  added: AddedToken[];
  /** Ids that the files give to added tokens. */
  ids: [number, string][];
  maxLength: number;
}

type Flags = Partial<AddedToken> & { content: string };
type Special = string | Flags;
type SpecialMap = Partial<Record<"bos_token" | "eos_token" | "unk_token" | "pad_token", Special | null>>;

interface Config extends SpecialMap {
  additional_special_tokens?: Special[] | null;
  extra_special_tokens?: Special[] | null;
  added_tokens_decoder?: Record<string, Flags> | null;
  model_max_length?: number | null;
  tokenizer_class?: string | null;
}

interface Serialized {
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  added_tokens?: (Flags & { id: number })[];
}

/** Length of every CLIP text encoder of Stable Diffusion, where the files leave it open. */
const CLIP_LENGTH = 77;
/** Longer than any CLIP's. */
const MAX_LENGTH = 4096;
/** From here on a length means "not set". */
const LENGTH_UNSET = 1e15;
const START = "<|startoftext|>";
const END = "<|endoftext|>";
const CLASSES = ["CLIPTokenizer", "CLIPTokenizerFast"];

/** Reads the files of one tokenizer. */
export function declared(files: TokenizerFiles): Declared {
  const config = json<Config>(files, "tokenizer_config.json") ?? {};
  const found = config.tokenizer_class;
  if (found != null && !CLASSES.includes(found)) {
    throw refused(`found a tokenizer of class ${found}, wanted CLIPTokenizer`);
  }
  const maxLength = length(config.model_max_length ?? undefined);
  const [vocab, merges] = vocabulary(files);
  const extra = config.additional_special_tokens ?? config.extra_special_tokens ?? [];
  let map: SpecialMap = {};
  let listed: [number, Flags][];
  if (config.added_tokens_decoder != null) {
    // With this list transformers ignores the other files.
    listed = Object.entries(config.added_tokens_decoder).map(([id, flags]) => [Number(id), flags]);
  } else {
    map = json<SpecialMap>(files, "special_tokens_map.json") ?? {};
    listed = addedElsewhere(files, [map, config], extra);
  }
  listed.sort(([first], [second]) => first - second);
  const ids = listed.map(([id, flags]): [number, string] => [id, flags.content]);
  const tokens = listed.map(([, flags]) => token(flags, false));
  const resolve = (special: Special, isSpecial: boolean): Resolved => {
    const bare = typeof special === "string";
    const own = bare
      ? token({ content: special, special: true, normalized: false }, true)
      : token(special, isSpecial);
    const known = tokens.find((other) => other.content === own.content);
    return known === undefined ? { bare, token: own } : { bare: false, token: known };
  };
  const pick = (name: keyof SpecialMap, fallback: string): Resolved => {
    const fromMap = map[name];
    if (fromMap != null) return resolve(fromMap, true);
    return resolve(config[name] ?? fallback, false);
  };
  const start = pick("bos_token", START);
  const end = pick("eos_token", END);
  const unknown = pick("unk_token", END);
  const padding = pick("pad_token", END);
  for (const [role, special] of Object.entries({ start, end, padding })) {
    const { content } = special.token;
    if (!vocab.has(content) && !tokens.some((known) => known.content === content)) {
      throw refused(`the ${role} token ${JSON.stringify(content)} is not in the vocabulary`);
    }
  }
  const specials = [start, end, unknown, padding, ...extra.map((own) => resolve(own, false))];
  return {
    vocab,
    merges,
    start: start.token.content,
    end: end.token.content,
    unknown: unknown.token.content,
    padding: padding.token.content,
    added: added(tokens, specials),
    ids,
    maxLength,
  };
}

/** A special token as declared: a bare string never equals a declared token. */
interface Resolved {
  bare: boolean;
  token: AddedToken;
}

function token(flags: Flags, isSpecial: boolean): AddedToken {
  const special = flags.special ?? isSpecial;
  return {
    content: flags.content,
    lstrip: flags.lstrip ?? false,
    rstrip: flags.rstrip ?? false,
    single_word: flags.single_word ?? false,
    normalized: flags.normalized ?? !special,
    special,
  };
}

/** Tokens of `added_tokens.json` and of `tokenizer.json`, which takes precedence. */
function addedElsewhere(files: TokenizerFiles, maps: SpecialMap[], extra: Special[]): [number, Flags][] {
  const content = (special: Special) => (typeof special === "string" ? special : special.content);
  const names = ["bos_token", "eos_token", "unk_token", "pad_token"] as const;
  const named = maps.flatMap((map) => names.map((name) => map[name])).filter((own) => own != null);
  const specials = new Set([...named, ...extra].map(content));
  const written = json<Record<string, number>>(files, "added_tokens.json") ?? {};
  const all = new Map<number, Flags>();
  for (const [text, id] of Object.entries(written)) {
    all.set(id, { content: text, special: specials.has(text) });
  }
  const serialized = json<Partial<Serialized>>(files, "tokenizer.json")?.added_tokens ?? [];
  for (const flags of serialized) all.set(flags.id, flags);
  return [...all];
}

/**
 * The tokens to add, each content once: the listed ones, then the special ones that no list holds.
 * Of different declarations of one content the last counts.
 */
function added(listed: AddedToken[], specials: Resolved[]): AddedToken[] {
  const isListed = (content: string) => listed.some((own) => own.content === content);
  const seen = new Map<string, Resolved>();
  for (const special of specials) {
    const key = JSON.stringify([special.bare, token(special.token, special.token.special)]);
    if (!isListed(special.token.content) && !seen.has(key)) seen.set(key, special);
  }
  const tokens = [...listed];
  for (const { token: own } of seen.values()) {
    const place = tokens.findIndex((known) => known.content === own.content);
    if (place >= 0) tokens[place] = own;
    else tokens.push(own);
  }
  return tokens;
}

function vocabulary(files: TokenizerFiles): [Map<string, number>, [string, string][]] {
  const vocab = json<Record<string, number>>(files, "vocab.json");
  const merges = files.get("merges.txt");
  if (vocab !== undefined && merges !== undefined) {
    const lines = merges.split("\n").map((line) => line.replace(/\r$/, ""));
    if (lines.at(-1) === "") lines.pop();
    const pairs = lines.filter((line) => !line.startsWith("#version")).map(pair);
    return [new Map(Object.entries(vocab)), pairs];
  }
  const serialized = json<Serialized>(files, "tokenizer.json");
  if (serialized === undefined) {
    throw refused("found neither vocab.json and merges.txt nor tokenizer.json");
  }
  const pairs = serialized.model.merges.map((merge, index) =>
    typeof merge === "string" ? pair(merge, index) : merge,
  );
  return [new Map(Object.entries(serialized.model.vocab)), pairs];
}

function pair(line: string, index: number): [string, string] {
  const parts = line.split(" ");
  if (parts.length !== 2) {
    throw refused(`merge ${index + 1} is not two tokens parted by one space`);
  }
  return parts as [string, string];
}

function length(found: number | undefined): number {
  if (found === undefined || found >= LENGTH_UNSET) return CLIP_LENGTH;
  if (found >= 2 && found <= MAX_LENGTH) return Math.floor(found);
  throw refused(`found model_max_length ${found}, wanted 2 to ${MAX_LENGTH}`);
}

function json<T>(files: TokenizerFiles, name: string): T | undefined {
  const text = files.get(name);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new SplamError("artifact", `${name} of the tokenizer is not JSON`, { cause });
  }
}

function refused(what: string): SplamError {
  return new SplamError("artifact", `the tokenizer: ${what}`);
}
