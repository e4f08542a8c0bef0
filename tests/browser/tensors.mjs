// Reads tensors of f32 from safetensors files.

import { readFileSync } from "node:fs";

/** The numbers of each tensor, by name. */
export function readTensors(path) {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, start).toString());
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    tensors[name] = new Float32Array(bytes.buffer.slice(
      bytes.byteOffset + start + from,
      bytes.byteOffset + start + to,
    ));
  }
  return tensors;
}

/** The greatest difference of two lists of numbers; infinity if their lengths differ. */
export function difference(first, second) {
  if (first.length !== second.length) return Infinity;
  return first.reduce((worst, value, at) => {
    const own = Math.abs(value - second[at]);
    return Number.isNaN(own) ? Infinity : Math.max(worst, own);
  }, 0);
}
