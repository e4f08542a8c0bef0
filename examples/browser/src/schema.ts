/**
 * The messages of an artifact's plan, as `plan.proto` defines them.
 *
 * A table that the reader follows, and the types of what it gives. A test compares the table with
 * `runtime/src/artifact/plan.proto`.
 */

/** The kind of a field: a scalar, or the name of a message. */
export type FieldKind = "string" | "bytes" | "uint32" | "uint64" | "bool" | "enum" | MessageName;

/** A field: its name, its kind, and whether it is repeated or may be absent. */
export type Field = readonly [name: string, kind: FieldKind, label?: "repeated" | "optional"];

/** Every message, and its fields by their numbers. */
export const MESSAGES = {
  Plan: {
    1: ["programs", "Program", "repeated"],
    2: ["shards", "Shard", "repeated"],
    3: ["commands", "Commands", "repeated"],
    4: ["constants", "Constant", "repeated"],
  },
  Program: {
    1: ["name", "string"],
    2: ["component", "string"],
    3: ["text", "string"],
    4: ["peak_bytes", "uint64"],
    5: ["whole", "Part"],
    6: ["parts", "Part", "repeated"],
    7: ["weight_program", "string"],
  },
  Part: {
    1: ["stage", "string"],
    2: ["regions", "string"],
    3: ["constants", "uint32", "repeated"],
    4: ["nodes", "uint64"],
    5: ["flops", "uint64"],
    6: ["taken", "Taken", "repeated"],
    7: ["commands", "uint32", "optional"],
    8: ["constant_buffers", "uint32", "repeated"],
  },
  Taken: {
    1: ["part", "uint32"],
    2: ["name", "string"],
  },
  Constant: {
    1: ["dtype", "string"],
    2: ["shape", "uint64", "repeated"],
    3: ["elements", "bytes"],
  },
  Shard: {
    1: ["tensors", "string", "repeated"],
  },
  Commands: {
    1: ["regions", "string"],
    2: ["name", "string"],
    3: ["kernels", "Kernel", "repeated"],
    4: ["launches", "Launch", "repeated"],
    5: ["hosted", "Hosted", "repeated"],
    6: ["arena", "uint64", "repeated"],
    7: ["weights", "uint64", "repeated"],
    8: ["uploads", "Upload", "repeated"],
    9: ["inputs", "Port", "repeated"],
    10: ["outputs", "Port", "repeated"],
    11: ["requirements", "Requirements"],
    12: ["states", "Port", "repeated"],
    13: ["copies", "Window", "repeated"],
  },
  Kernel: {
    1: ["name", "string"],
    2: ["bindings", "enum", "repeated"],
    3: ["origin", "string"],
  },
  Launch: {
    1: ["kernel", "uint32"],
    2: ["arguments", "Window", "repeated"],
    3: ["grid", "uint32", "repeated"],
    4: ["region", "uint32"],
    5: ["flops", "uint64"],
  },
  Hosted: {
    1: ["region", "uint32"],
    2: ["before", "uint32"],
    3: ["reads", "Exchange", "repeated"],
    4: ["stores", "Exchange", "repeated"],
  },
  Exchange: {
    1: ["value", "uint32"],
    2: ["port", "Port"],
  },
  Window: {
    1: ["pool", "enum"],
    2: ["buffer", "uint32"],
    3: ["offset", "uint64"],
    4: ["bytes", "uint64"],
  },
  Port: {
    1: ["name", "string"],
    2: ["dtype", "string"],
    3: ["shape", "uint64", "repeated"],
    4: ["window", "Window"],
    5: ["stored", "enum"],
  },
  Upload: {
    1: ["weight", "string", "optional"],
    2: ["constant", "uint32", "optional"],
    3: ["dtype", "string"],
    4: ["shape", "uint64", "repeated"],
    5: ["order", "uint32", "repeated"],
    6: ["window", "Window"],
    7: ["stored", "enum"],
  },
  Requirements: {
    1: ["binding_bytes_max", "uint64"],
    2: ["buffer_bytes_max", "uint64"],
    3: ["storage_buffers_max", "uint32"],
    4: ["workgroup_bytes", "uint32"],
    5: ["invocations_max", "uint32"],
    6: ["workgroups_per_dimension_max", "uint32"],
    7: ["shader_f16", "bool"],
  },
} as const satisfies Record<string, Record<number, readonly [string, string, ("repeated" | "optional")?]>>;

/** The name of a message. */
export type MessageName = keyof typeof MESSAGES;

type Scalar<K> = K extends "string"
  ? string
  : K extends "bytes"
    ? Uint8Array
    : K extends "bool"
      ? boolean
      : K extends MessageName
        ? Message<K>
        : number;

type Labelled<F> = F extends readonly [string, infer K, "repeated"]
  ? Scalar<K>[]
  : F extends readonly [string, infer K, "optional"]
    ? Scalar<K> | undefined
    : F extends readonly [string, infer K]
      ? Scalar<K>
      : never;

type FieldsOf<N extends MessageName> = (typeof MESSAGES)[N];

/** A message with all its fields; what is absent has its default. */
export type Message<N extends MessageName> = {
  [T in keyof FieldsOf<N> as FieldsOf<N>[T] extends readonly [infer Name extends string, ...unknown[]]
    ? Name
    : never]: Labelled<FieldsOf<N>[T]>;
};

/** `Binding` of the schema. */
export const Binding = { READ: 0, READ_WRITE: 1 } as const;
/** `Pool` of the schema. */
export const Pool = { ARENA: 0, WEIGHTS: 1, STATES: 2 } as const;
/** `StoredAs` of the schema. */
export const StoredAs = { F32: 0, F16: 1, BF16: 2, I32: 3 } as const;
