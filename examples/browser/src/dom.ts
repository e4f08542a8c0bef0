/**
 * Elements of the page by their ids, and texts for people.
 */

import { SplamError } from "./error.js";

/** The element of an id, which the page has. */
export function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/** Shows or hides an element. */
export function show(id: string, isShown: boolean): void {
  element(id, HTMLElement).hidden = !isShown;
}

/** What is said of an error: sentences begin with a capital; nothing where there is none. */
export function failureText(error: unknown): string {
  if (error === undefined) return "";
  const text = error instanceof Error ? error.message : String(error);
  const own = error instanceof SplamError ? text : `something went wrong: ${text}`;
  return own.charAt(0).toUpperCase() + own.slice(1) + (own.endsWith(".") ? "" : ".");
}
