/**
 * What can go wrong, as errors that programs and people can tell apart.
 *
 * An error carries a code that stays the same, and a sentence that says what was found, what was
 * wanted and what to do. An aborted call is the platform's own `AbortError`.
 */

/** What an error is about. */
export type ErrorCode =
  /** The browser has no WebGPU. */
  | "no-webgpu"
  /** The browser has WebGPU, but no adapter to offer. */
  | "no-adapter"
  /** The adapter's limits or features are too small for the model. */
  | "limits"
  /** The GPU has not enough memory. */
  | "out-of-memory"
  /** The GPU was lost, and could not be had again. */
  | "device-lost"
  /** A file could not be fetched. */
  | "network"
  /** A file is not what the manifest says. */
  | "integrity"
  /** The browser stores no more. */
  | "quota"
  /** The artifact is of another version or target, or needs what this package does not do. */
  | "unsupported"
  /** The artifact contradicts itself. */
  | "artifact"
  /** An option has a value that the model cannot take. */
  | "option"
  /** The model answered with NaN or infinity. */
  | "not-finite"
  /** The pipeline was disposed of, or is at work. */
  | "state";

/** An error of this package. */
export class SplamError extends Error {
  override readonly name = "SplamError";

  /** @param code what it is about @param message a sentence for people */
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** An error as plain data, which passes between a worker and its page. */
export interface PlainError {
  name: string;
  message: string;
  code?: ErrorCode;
}

/** An error as plain data. */
export function plain(error: unknown): PlainError {
  if (error instanceof SplamError) {
    return { name: error.name, message: error.message, code: error.code };
  }
  if (error instanceof Error || error instanceof DOMException) {
    return { name: error.name, message: error.message };
  }
  return { name: "Error", message: String(error) };
}

/** The error that plain data describe. */
export function revived(error: PlainError): Error {
  if (error.code !== undefined) return new SplamError(error.code, error.message);
  if (error.name === "AbortError") return new DOMException(error.message, "AbortError");
  const revived = new Error(error.message);
  revived.name = error.name;
  return revived;
}
