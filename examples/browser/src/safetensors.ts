/**
 * A reader of safetensors files.
 *
 * Takes the bytes of a shard; gives views of its tensors. It copies nothing.
 */

import type { Tensor } from "./elements.js";
import { SplamError } from "./error.js";

const TYPES: Record<string, string> = {
  BOOL: "bool", U8: "u8", I8: "i8", F16: "f16", BF16: "bf16",
  F32: "f32", I32: "i32", F64: "f64", I64: "i64",
};

/** The tensors of a file by name; `file` is its name for messages. */
export function readSafetensors(bytes: Uint8Array, file: string): Map<string, Tensor> {
  const damaged = (what: string) =>
    new SplamError("artifact", `${file} is not a safetensors file: ${what}`);
  if (bytes.length < 8) throw damaged("it is shorter than its header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const start = 8 + Number(view.getBigUint64(0, true));
  if (start > bytes.length) throw damaged("it is shorter than its header");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    const dtype = TYPES[entry.dtype];
    if (dtype === undefined) throw damaged(`${name} is of type ${entry.dtype}`);
    if (from > to || start + to > bytes.length) throw damaged(`${name} ends after the file`);
    tensors.set(name, {
      dtype,
      shape: entry.shape,
      bytes: bytes.subarray(start + from, start + to),
    });
  }
  return tensors;
}
