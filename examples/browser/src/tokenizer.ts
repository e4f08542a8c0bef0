/**
 * CLIP's tokenizer: from a prompt to the ids that the text encoder reads.
 *
 * Takes the texts of a tokenizer's files; gives ids that equal those of `runtime::tokenizer`, cut
 * and padded to the model's length. A test compares both on random text.
 */

import { SplamError } from "./error.js";
import { declared, type AddedToken, type TokenizerFiles } from "./tokenizer_files.js";

/** What Unicode calls white space; `\s` of JavaScript has one character more and lacks another. */
const SPACE = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACES = new RegExp(`[${SPACE}]+`, "gu");
/**
 * What CLIP reads as one word: a special token, an English contraction, a run of letters, one
 * digit, or a run of anything else that is not space (Radford et al. 2021, `simple_tokenizer`).
 */
const WORDS = new RegExp(
  `<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^${SPACE}\\p{L}\\p{N}]+`,
  "gu",
);
/** How GPT-2 splits words, which splits special tokens that are written in a text. */
const PIECES = new RegExp(`'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}+|[^${SPACE}\\p{L}\\p{N}]+`, "gu");
const END_OF_WORD = "</w>";

/** A prompt's ids. */
export interface Encoded {
  /** The start token, the prompt's tokens, the end token, padding: as many as the model reads. */
  ids: number[];
  /** Tokens of the whole prompt, start and end included, before anything was cut. */
  tokenCount: number;
  /** Whether the prompt's tail was cut off to fit. */
  truncated: boolean;
}

/** A loaded CLIP tokenizer. */
export class Tokenizer {
  /** How many ids the text encoder reads. */
  readonly maxLength: number;
  private readonly vocab: Map<string, number>;
  private readonly ranks = new Map<string, { rank: number; text: string }>();
  private readonly ids = new Map<string, number>();
  private readonly added: AddedToken[];
  private readonly unknown: string;
  private readonly ends: [start: number, end: number, padding: number];
  private readonly words = new Map<string, number[]>();

  constructor(files: TokenizerFiles) {
    const { vocab, merges, added, ids, unknown, start, end, padding, maxLength } = declared(files);
    this.vocab = vocab;
    this.maxLength = maxLength;
    this.unknown = unknown;
    merges.forEach(([first, second], rank) => {
      const text = first + second;
      if (![first, second, text].every((token) => vocab.has(token))) {
        throw refused(`merge ${rank + 1} makes ${JSON.stringify(text)} of tokens that are not in the vocabulary`);
      }
      this.ranks.set(`${first} ${second}`, { rank, text });
    });
    this.added = added.filter((token) => token.content !== "");
    let next = vocab.size;
    for (const { content } of this.added) {
      if (this.ids.has(content)) continue;
      this.ids.set(content, vocab.get(content) ?? next++);
    }
    for (const [wanted, content] of ids) {
      const found = this.id(content);
      if (found !== undefined && found !== wanted) {
        throw refused(`the added token ${JSON.stringify(content)} has the id ${wanted}, but its place is ${found}`);
      }
    }
    const id = (role: string, content: string) => {
      const found = this.id(content);
      if (found === undefined) {
        throw refused(`the ${role} token ${JSON.stringify(content)} is not in the vocabulary`);
      }
      return found;
    };
    this.ends = [id("start", start), id("end", end), id("padding", padding)];
  }

  /** Encodes a prompt of any length; text that spells a special token becomes that token. */
  encode(text: string): Encoded {
    const found: number[] = [];
    // A half of a surrogate pair is no character; Rust's texts have none.
    const whole = text.toWellFormed();
    for (const [token, part] of split(whole, this.added.filter((own) => !own.normalized), (x) => x)) {
      if (token !== undefined) {
        found.push(this.ids.get(token.content) as number);
        continue;
      }
      const later = this.added.filter((own) => own.normalized);
      for (const [own, rest] of split(normalize(part), later, normalize)) {
        if (own !== undefined) found.push(this.ids.get(own.content) as number);
        else for (const word of rest.match(WORDS) ?? []) found.push(...this.word(word));
      }
    }
    const room = this.maxLength - 2;
    const [start, end, padding] = this.ends;
    const ids = [start, ...found.slice(0, room), end];
    while (ids.length < this.maxLength) ids.push(padding);
    return { ids, tokenCount: found.length + 2, truncated: found.length > room };
  }

  private id(content: string): number | undefined {
    return this.ids.get(content) ?? this.vocab.get(content);
  }

  private word(word: string): number[] {
    let ids = this.words.get(word);
    if (ids === undefined) {
      ids = (word.match(PIECES) ?? []).flatMap((piece) => this.merge(piece));
      // Prompts repeat words; a page that runs for days must not keep all of them.
      if (this.words.size < 10_000) this.words.set(word, ids);
    }
    return ids;
  }

  /** Merges neighbours, the most frequent pair first and of equal ones the leftmost. */
  private merge(piece: string): number[] {
    const bytes = new TextEncoder().encode(piece);
    const parts = Array.from(bytes, (byte, at) => {
      const own = CHARACTERS[byte] + (at === bytes.length - 1 ? END_OF_WORD : "");
      if (this.vocab.has(own)) return own;
      if (!this.vocab.has(this.unknown)) {
        throw refused(`the vocabulary lacks the byte ${byte} and the unknown token`);
      }
      return this.unknown;
    });
    for (;;) {
      let best: { rank: number; text: string } | undefined;
      let place = -1;
      for (let at = 0; at + 1 < parts.length; at++) {
        const pair = this.ranks.get(`${parts[at]} ${parts[at + 1]}`);
        if (pair !== undefined && (best === undefined || pair.rank < best.rank)) {
          best = pair;
          place = at;
        }
      }
      if (best === undefined) return parts.map((part) => this.vocab.get(part) as number);
      parts.splice(place, 2, best.text);
    }
  }
}

/** The character that stands for each byte in the vocabulary, as GPT-2 chose them. */
const CHARACTERS: string[] = (() => {
  const isPlain = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPlain(byte) ? byte : next++));
})();

/** Composes, makes every run of white space one space, and lowers each character by itself. */
function normalize(text: string): string {
  const spaced = text.normalize("NFC").replace(SPACES, " ");
  // A whole word would end in another letter: lower case of Σ depends on its place.
  return Array.from(spaced, (character) => character.toLowerCase()).join("");
}

/** Parts of a text: added tokens, and what is between them. */
function split(
  text: string,
  tokens: AddedToken[],
  form: (content: string) => string,
): [AddedToken | undefined, string][] {
  const forms = tokens.map((token) => [token, form(token.content)] as const);
  const parts: [AddedToken | undefined, string][] = [];
  let done = 0;
  let at = 0;
  while (at < text.length && forms.length > 0) {
    const found = forms
      .filter(([, content]) => content !== "" && text.startsWith(content, at))
      .reduce<(typeof forms)[number] | undefined>(
        (best, own) => (best === undefined || own[1].length > best[1].length ? own : best),
        undefined,
      );
    if (found === undefined) {
      at++;
      continue;
    }
    const [token, content] = found;
    let [start, end] = [at, at + content.length];
    at = end;
    if (token.single_word && (/[\p{L}\p{N}_\p{M}\p{Pc}]$/u.test(text.slice(0, start)) || /^[\p{L}\p{N}_\p{M}\p{Pc}]/u.test(text.slice(end)))) {
      continue;
    }
    if (token.lstrip) start = Math.max(done, text.slice(0, start).replace(new RegExp(`[${SPACE}]+$`, "u"), "").length);
    if (token.rstrip) end += (new RegExp(`^[${SPACE}]*`, "u").exec(text.slice(end))?.[0] ?? "").length;
    if (done < start) parts.push([undefined, text.slice(done, start)]);
    parts.push([token, text.slice(start, end)]);
    done = end;
    at = Math.max(at, end);
  }
  if (done < text.length) parts.push([undefined, text.slice(done)]);
  return parts;
}

function refused(what: string): SplamError {
  return new SplamError("artifact", `the tokenizer: ${what}`);
}
