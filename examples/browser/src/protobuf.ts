/**
 * A reader of protocol buffers.
 *
 * Takes bytes and the name of a message; gives the message with every field. Fields that the schema
 * does not have are skipped, as the format asks; what ends early or has another wire type is an
 * error.
 */

import { SplamError } from "./error.js";
import { MESSAGES, type Field, type Message, type MessageName } from "./schema.js";

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

const text = new TextDecoder("utf-8", { fatal: true });

/** Reads a message. */
export function decode<N extends MessageName>(name: N, bytes: Uint8Array): Message<N> {
  return new Reader(bytes).message(name) as Message<N>;
}

class Reader {
  private at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  message(name: MessageName): Record<string, unknown> {
    const fields: Record<number, Field> = MESSAGES[name];
    const message: Record<string, unknown> = {};
    for (const [field, kind, label] of Object.values(fields)) {
      message[field] = absent(kind, label);
    }
    while (this.at < this.bytes.length) {
      const key = this.varint();
      const [wire, field] = [key & 7, fields[Math.floor(key / 8)]];
      if (field === undefined) {
        this.skip(wire);
        continue;
      }
      const [own, kind, label] = field;
      const packed = wire === DELIMITED && isNumber(kind);
      if (label === "repeated") {
        const list = message[own] as unknown[];
        if (packed) {
          const rest = new Reader(this.delimited());
          while (rest.at < rest.bytes.length) list.push(rest.scalar(kind, VARINT));
        } else {
          list.push(this.scalar(kind, wire));
        }
      } else {
        message[own] = this.scalar(kind, wire);
      }
    }
    return message;
  }

  private scalar(kind: Field[1], wire: number): unknown {
    if (wire !== (isNumber(kind) ? VARINT : DELIMITED)) throw damaged();
    switch (kind) {
      case "uint32":
      case "uint64":
      case "enum":
        return this.varint();
      case "bool":
        return this.varint() !== 0;
      case "string":
        return text.decode(this.delimited());
      case "bytes":
        return this.delimited();
      default:
        return new Reader(this.delimited()).message(kind);
    }
  }

  private varint(): number {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = this.bytes[this.at++];
      if (byte === undefined || factor > 2 ** 63) throw damaged();
      value += (byte & 127) * factor;
      if (byte < 128) break;
      factor *= 128;
    }
    // What is larger is no size of anything that a browser holds.
    if (!Number.isSafeInteger(value)) throw damaged();
    return value;
  }

  private delimited(): Uint8Array {
    const length = this.varint();
    const end = this.at + length;
    if (end > this.bytes.length) throw damaged();
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }

  private skip(wire: number): void {
    if (wire === VARINT) this.varint();
    else if (wire === DELIMITED) this.delimited();
    else if (wire === FIXED32) this.at += 4;
    else if (wire === FIXED64) this.at += 8;
    else throw damaged();
  }
}

function isNumber(kind: Field[1]): boolean {
  return kind === "uint32" || kind === "uint64" || kind === "enum" || kind === "bool";
}

function absent(kind: Field[1], label: Field[2]): unknown {
  if (label === "repeated") return [];
  if (label === "optional") return undefined;
  if (kind === "string") return "";
  if (kind === "bytes") return new Uint8Array();
  if (kind === "bool") return false;
  return isNumber(kind) ? 0 : new Reader(new Uint8Array()).message(kind as MessageName);
}

function damaged(): SplamError {
  return new SplamError("artifact", "the plan of the artifact is not protobuf of the plan's schema");
}
