// The tokenizer in TypeScript gives the same ids as Rust's.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "./models.mjs";
import { source } from "./source.mjs";

const PROMPTS = 10_000;

/** Numbers without a pattern (the generator of Knuth's MMIX). */
function generator(seed) {
  let state = BigInt(seed);
  return (bound) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    return Number((state >> 33n) % BigInt(bound));
  };
}

/** Pieces that mean something to tokenizers. */
const PIECES = [
  "a red circle", "isn't", "WE'LL", "<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "  ", "\n\t",
  "\u00a0", "\u0085", "\ufeff", "\u2028", "3.14", "2024", "½", "Ⅷ", "Σίσυφος", "ΟΔΟΣ", "İstanbul",
  "ﬁ", "e\u0301", "A\u030a", "한국어", "\u1112\u1161\u11ab", "日本語", "naïve café", "😀", "👩‍👩‍👧", "🇩🇪",
  "'", "''s", "’s", "--", "((x))", "\u200d", "\u0000", "\uffff", "ǅ", "ß", "ẞ",
];

/** A text of pieces and of characters from all of Unicode. */
function text(below) {
  let text = "";
  for (let count = below(12); count >= 0; count--) {
    const kind = below(4);
    if (kind === 0) text += PIECES[below(PIECES.length)];
    else if (kind === 1) text += String.fromCharCode(32 + below(95));
    else {
      const point = below([0x250, 0x3000, 0x10000, 0x110000][below(4)]);
      // Halves of pairs are no characters.
      if (point < 0xd800 || point > 0xdfff) text += String.fromCodePoint(point);
    }
    if (below(3) === 0) text += " ";
  }
  return text;
}

for (const folder of ["examples/tiny-model/tokenizer", "examples/shapes/untrained/tokenizer"]) {
  test(`${PROMPTS} random prompts, ${folder}`, async () => {
    const { Tokenizer } = await source("tokenizer");
    const path = join(ROOT, folder);
    const files = readdirSync(path).map((name) => [name, readFileSync(join(path, name), "utf8")]);
    const tokenizer = new Tokenizer(new Map(files));
    const below = generator(2026);
    const texts = Array.from({ length: PROMPTS }, () => text(below));
    const encode = ["run", "--quiet", "-p", "browser_core", "--example", "encode_prompts", "--", path];
    const options = { cwd: ROOT, input: JSON.stringify(texts), maxBuffer: 1 << 28 };
    const rust = process.env.ENCODE_PROMPTS;
    const printed = rust === undefined
      ? execFileSync("cargo", encode, options)
      : execFileSync(rust, [path], options);
    const wanted = JSON.parse(printed);
    texts.forEach((own, number) => {
      const { ids } = tokenizer.encode(own);
      assert.deepEqual(ids, wanted[number], `prompt ${number}: ${JSON.stringify(own)}`);
    });
  });
}
