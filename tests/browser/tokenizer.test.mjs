// The tokenizer in TypeScript gives the same ids as Rust's, with the browser's own tables of Unicode.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./browser.mjs";
import { ROOT } from "./models.mjs";
import { address } from "./source.mjs";

const PROMPTS = 10_000;
/** Rust's tokenizer, which `examples/browser/core/examples/encode_prompts.rs` runs. */
const ENCODE_PROMPTS = join(ROOT, "target/debug/examples/encode_prompts");

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

/**
 * Letters and digits that Unicode 17 added. Whether they are letters depends on the version of each
 * side's tables: Rust's are those of Unicode 16, and browsers differ.
 */
const NEWER = [
  [0x88f, 0x88f], [0xc5c, 0xc5c], [0xcdc, 0xcdc], [0xa7ce, 0xa7d4], [0xa7f1, 0xa7f1],
  [0x10940, 0x1095f], [0x10ec5, 0x10ec7], [0x11db0, 0x11def], [0x16ea0, 0x16edf],
  [0x16ff2, 0x16ff6], [0x187f8, 0x187ff], [0x18d09, 0x18df2], [0x1e6c0, 0x1e6ff],
  [0x2b73a, 0x2b73f], [0x2cea2, 0x2ceaf], [0x323b0, 0x33479],
];
/**
 * Combining marks that came after Unicode 9, whose tables Rust's composing library has: it leaves
 * them where they are, and browsers sort them among other marks.
 */
const NEWER_MARKS = [
  [0x898, 0x89f], [0x8c9, 0x8d3], [0x9fe, 0x9fe], [0xc3c, 0xc3c], [0xd3b, 0xd3c],
  [0x1abf, 0x1aff], [0x1df6, 0x1dfa], [0x10000, 0x10ffff],
];
const isIn = (point, ranges) => ranges.some(([first, last]) => point >= first && point <= last);
const isNewer = (point) =>
  isIn(point, NEWER) || (isIn(point, NEWER_MARKS) && /\p{M}/u.test(String.fromCodePoint(point)));

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
      const isHalf = point >= 0xd800 && point <= 0xdfff;
      if (!isHalf && !isNewer(point)) text += String.fromCodePoint(point);
    }
    if (below(3) === 0) text += " ";
  }
  return text;
}

let browser;
let page;

before(async () => {
  browser = await launch();
  page = await browser.newPage();
});

after(() => browser?.close());

for (const folder of ["examples/tiny-model/tokenizer", "examples/shapes/untrained/tokenizer"]) {
  test(`${PROMPTS} random prompts, ${folder}`, async () => {
    const path = join(ROOT, folder);
    const files = readdirSync(path).map((name) => [name, readFileSync(join(path, name), "utf8")]);
    const below = generator(2026);
    const texts = Array.from({ length: PROMPTS }, () => text(below));
    const options = { input: JSON.stringify(texts), maxBuffer: 1 << 28 };
    const printed = execFileSync(process.env.ENCODE_PROMPTS ?? ENCODE_PROMPTS, [path], options);
    const wanted = JSON.parse(printed);
    const found = await page.evaluate(async ([module, own, prompts]) => {
      const { Tokenizer } = await import(module);
      const tokenizer = new Tokenizer(new Map(own));
      return prompts.map((prompt) => tokenizer.encode(prompt).ids);
    }, [await address("tokenizer"), files, texts]);
    texts.forEach((own, number) => {
      assert.deepEqual(found[number], wanted[number], `prompt ${number}: ${JSON.stringify(own)}`);
    });
  });
}
