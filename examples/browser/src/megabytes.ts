/**
 * Bytes in words.
 */

/** Bytes for people: kB below a million, else MB with one decimal. */
export function megabytes(bytes: number): string {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
