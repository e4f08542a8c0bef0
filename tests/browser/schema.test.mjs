// The reader of plans in TypeScript follows the written schema.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "./models.mjs";
import { source } from "./source.mjs";

/** The fields of the schema: message, number, name, type and label. */
function fieldsOf(text) {
  const enums = [...text.matchAll(/^enum (\w+)/gm)].map(([, name]) => name);
  const fields = [];
  for (const [, message, body] of text.matchAll(/^message (\w+) \{(.*?)^\}/gms)) {
    const choice = /oneof \w+ \{(.*?)\n  \}/s.exec(body)?.[1] ?? "";
    for (const [line, label, type, name, number] of body.matchAll(
      /^ +(?:(repeated|optional) )?(\w+) (\w+) = (\d+);/gm,
    )) {
      const kind = enums.includes(type) ? "enum" : type;
      const own = choice.includes(line) ? "optional" : label;
      fields.push([message, Number(number), name, kind, own ?? "one"].join(" "));
    }
  }
  return fields.sort();
}

test("the table of messages is that of plan.proto", async () => {
  const { MESSAGES } = await source("schema");
  const wanted = fieldsOf(readFileSync(join(ROOT, "runtime/src/artifact/plan.proto"), "utf8"));
  const found = Object.entries(MESSAGES).flatMap(([message, fields]) =>
    Object.entries(fields).map(([number, [name, kind, label]]) =>
      [message, number, name, kind, label ?? "one"].join(" "),
    ),
  );
  assert.ok(wanted.length > 60, `${wanted.length} fields`);
  assert.deepEqual(found.sort(), wanted);
});

test("messages that end early or have other types are refused", async () => {
  const { decode } = await source("protobuf");
  const shard = decode("Plan", Uint8Array.of(0x12, 3, 0x0a, 1, 97, 0x78, 5));
  assert.deepEqual(shard.shards, [{ tensors: ["a"] }]);
  for (const bytes of [[0x12, 4, 0x0a, 1], [0x10, 1], [0x12], [0x12, 2, 0x0a, 9], [0x0b]]) {
    assert.throws(() => decode("Plan", Uint8Array.from(bytes)), { code: "artifact" });
  }
});
