/**
 * Elements on their way between the host and a device.
 *
 * Takes tensors and gives the bytes that are stored on a device, in the order of axes that kernels
 * read; and numbers from such bytes. It does what `backends/src/gpu/elements.rs` does.
 */

import { SplamError } from "./error.js";
import { StoredAs } from "./schema.js";

/** A tensor as safetensors stores it: row-major, little end first. */
export interface Tensor {
  /** `f32`, `f16`, `bf16`, `i32`, `i64` and so on. */
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** How a tensor is stored on a device. */
export interface Layout {
  /** The declared type. */
  dtype: string;
  shape: number[];
  /** The axes, outermost first. */
  order: number[];
  /** A value of `StoredAs`. */
  stored: number;
}

const SIZES: Record<string, number> = {
  bool: 1, u8: 1, i8: 1, f16: 2, bf16: 2, f32: 4, i32: 4, f64: 8, i64: 8,
};
const STORED_TYPES: Record<number, string> = {
  [StoredAs.F32]: "f32",
  [StoredAs.F16]: "f16",
  [StoredAs.BF16]: "bf16",
  [StoredAs.I32]: "i32",
};

const word = new DataView(new ArrayBuffer(4));

/** The bits of a number as f16, to the nearest, ties to even. */
export function toF16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  // From here on the nearest f16 is infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below the least normal number: units of 2^-24. Adding 2^23 of them rounds to even.
    word.setUint32(0, magnitude);
    const units = word.getFloat32(0) * 2 ** 24;
    return sign | (Math.fround(units + 2 ** 23) - 2 ** 23);
  }
  const half = (magnitude - 0x38000000) >>> 13;
  const rest = magnitude & 0x1fff;
  const up = rest > 0x1000 || (rest === 0x1000 && (half & 1) === 1);
  return sign | (half + (up ? 1 : 0));
}

/** The number that bits of an f16 are. */
export function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The bits of a number as bf16, to the nearest, ties to even. */
export function toBf16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that bits of a bf16 are. */
export function fromBf16(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}

function product(shape: number[]): number {
  return shape.reduce((all, side) => all * side, 1);
}

/** A tensor of f32 of numbers. */
export function floatTensor(shape: number[], values: Float32Array): Tensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { dtype: "f32", shape, bytes };
}

/** A tensor of one number everywhere; integers are cut to whole ones, as a cast does. */
export function filledTensor(dtype: string, shape: number[], value: number): Tensor {
  const count = product(shape);
  if (dtype === "i64") {
    const values = new BigInt64Array(count).fill(BigInt(Math.trunc(value)));
    return { dtype, shape, bytes: new Uint8Array(values.buffer) };
  }
  if (dtype === "i32") {
    const values = new Int32Array(count).fill(Math.trunc(value));
    return { dtype, shape, bytes: new Uint8Array(values.buffer) };
  }
  return floatTensor(shape, new Float32Array(count).fill(value));
}

/** The numbers of a tensor of f32. */
export function numbers(tensor: Tensor): Float32Array {
  const { buffer, byteOffset, byteLength } = tensor.bytes;
  return new Float32Array(buffer, byteOffset, byteLength / 4);
}

/** Numbers one after the other. */
export function concatenated(parts: Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The bytes of a tensor as a device stores it, in whole words; `name` is for messages. */
export function encode(tensor: Tensor, layout: Layout, name: string): Uint8Array<ArrayBuffer> {
  const isFloat = (dtype: string) => /^b?f\d/.test(dtype);
  const sameShape = tensor.shape.join() === layout.shape.join();
  const sameType = tensor.dtype === layout.dtype || (isFloat(tensor.dtype) && isFloat(layout.dtype));
  if (!sameShape || !sameType) {
    const found = `${tensor.dtype} [${tensor.shape.join(", ")}]`;
    const wanted = `${layout.dtype} [${layout.shape.join(", ")}]`;
    throw new SplamError("artifact", `${name} is ${found}; expected ${wanted}`);
  }
  const count = product(layout.shape);
  const size = SIZES[tensor.dtype];
  if (size === undefined || tensor.bytes.length !== count * size) {
    const found = tensor.bytes.length;
    throw new SplamError("artifact", `${name} has ${found} bytes of ${tensor.dtype} for ${count} elements`);
  }
  const storedType = STORED_TYPES[layout.stored] ?? "f32";
  const storedSize = SIZES[storedType] ?? 4;
  const out = new Uint8Array(Math.ceil((count * storedSize) / 4) * 4);
  const isExact = tensor.dtype === storedType && (layout.dtype === storedType || layout.dtype === "f32");
  const isSorted = layout.order.every((axis, place) => axis === place);
  if (isExact && isSorted) {
    out.set(tensor.bytes);
    return out;
  }
  const isCopy = isExact && size === storedSize;
  if (isCopy) copy(tensor.bytes, out, layout, size);
  else convert(tensor, out, layout, storedType, name);
  return out;
}

/**
 * Runs of elements in the order of the device: the first one in the tensor, the distance from one
 * to the next, and how many.
 */
function* runs(layout: Layout): Generator<readonly [start: number, stride: number, count: number]> {
  const strides: number[] = new Array(layout.shape.length).fill(1);
  for (let axis = layout.shape.length - 1; axis > 0; axis--) {
    strides[axis - 1] = (strides[axis] as number) * (layout.shape[axis] as number);
  }
  const axes = layout.order.map((axis) => [layout.shape[axis] ?? 1, strides[axis] ?? 1] as const);
  const [count, stride] = axes.pop() ?? [1, 1];
  const rows = product(axes.map(([side]) => side));
  for (let row = 0; row < rows; row++) {
    let rest = row;
    let start = 0;
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      const [side, step] = axes[axis] as readonly [number, number];
      start += (rest % side) * step;
      rest = Math.floor(rest / side);
    }
    yield [start, stride, count];
  }
}

/** Copies elements of 2 or 4 bytes in the order of the device. */
function copy(bytes: Uint8Array, out: Uint8Array<ArrayBuffer>, layout: Layout, size: number): void {
  const Words = size === 2 ? Uint16Array : Uint32Array;
  // A view of words must begin at a whole word.
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const source = new Words(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.length / size);
  const target = new Words(out.buffer);
  let to = 0;
  for (const [start, stride, count] of runs(layout)) {
    for (let place = 0; place < count; place++) {
      target[to++] = source[start + place * stride] as number;
    }
  }
}

/** Converts elements, rounded to the declared type and then to the stored one. */
function convert(
  tensor: Tensor,
  out: Uint8Array<ArrayBuffer>,
  layout: Layout,
  storedType: string,
  name: string,
): void {
  const view = new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.length);
  const read = reader(view, tensor.dtype);
  const write = writer(new DataView(out.buffer), layout.dtype, storedType, name);
  let to = 0;
  for (const [start, stride, count] of runs(layout)) {
    for (let place = 0; place < count; place++) write(to++, read(start + place * stride));
  }
}

function writer(
  target: DataView,
  declared: string,
  storedType: string,
  name: string,
): (place: number, value: number) => void {
  const rounded = (value: number) => {
    if (declared === "f16") return fromF16(toF16(value));
    return declared === "bf16" ? fromBf16(toBf16(value)) : value;
  };
  switch (storedType) {
    case "f16":
      return (place, value) => target.setUint16(2 * place, toF16(rounded(value)), true);
    case "bf16":
      return (place, value) => target.setUint16(2 * place, toBf16(rounded(value)), true);
    case "i32":
      return (place, value) => {
        if (value !== (value | 0)) {
          throw new SplamError("artifact", `${name} holds ${value}; expected integers of 32 bits`);
        }
        target.setInt32(4 * place, value, true);
      };
    default:
      return (place, value) => target.setFloat32(4 * place, rounded(value), true);
  }
}

function reader(source: DataView, dtype: string): (place: number) => number {
  switch (dtype) {
    case "f16": return (place) => fromF16(source.getUint16(2 * place, true));
    case "bf16": return (place) => fromBf16(source.getUint16(2 * place, true));
    case "f32": return (place) => source.getFloat32(4 * place, true);
    case "f64": return (place) => Math.fround(source.getFloat64(8 * place, true));
    case "i32": return (place) => source.getInt32(4 * place, true);
    case "i64": return (place) => Number(source.getBigInt64(8 * place, true));
    case "i8": return (place) => source.getInt8(place);
    case "bool": return (place) => (source.getUint8(place) === 0 ? 0 : 1);
    default: return (place) => source.getUint8(place);
  }
}

/** Numbers from the bytes of a result: `count` of them. */
export function floats(bytes: ArrayBuffer, stored: number, count: number): Float32Array {
  const storedType = STORED_TYPES[stored] ?? "f32";
  if (storedType === "f32") return new Float32Array(bytes.slice(0, 4 * count));
  const read = reader(new DataView(bytes), storedType);
  return Float32Array.from({ length: count }, (_, place) => read(place));
}
