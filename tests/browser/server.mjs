// A static server that can misbehave.
//
// Takes folders by the first part of an address; gives files with ranges, as web hosts do, and keeps
// a list of what was asked for. Tests tell it which files to cut, change or refuse.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** Serves folders; `mounts` has a folder for each first part of an address. */
export async function serve(mounts) {
  const state = {
    /** What was asked for: the address, and its range. */
    requests: [],
    /** Called with an address and its content; gives other content. */
    alter: (_path, content) => content,
    /** Called with an address; gives the bytes after which the connection breaks. */
    cut: () => undefined,
    /** Milliseconds between pieces of 64 KiB. */
    pause: 0,
  };
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://host").pathname);
    const [, mount, ...rest] = path.split("/");
    const { range } = request.headers;
    if (path === "/" || path === "/favicon.ico") {
      response.writeHead(path === "/" ? 200 : 404, { "content-type": "text/html" });
      response.end("<!doctype html><title>tests</title>");
      return;
    }
    state.requests.push({ path, range });
    let content;
    try {
      const folder = mounts[mount];
      if (folder === undefined) throw new Error(`nothing is served at ${path}`);
      const name = rest.join("/") || "index.html";
      content = state.alter(path, await readFile(join(folder, normalize(name))));
    } catch {
      response.writeHead(404);
      response.end();
      return;
    }
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    const type = TYPES[extname(rest.at(-1) ?? "")] ?? "application/octet-stream";
    const headers = { "content-type": type, "accept-ranges": "bytes" };
    const part = content.subarray(start);
    headers["content-length"] = part.length;
    if (start > 0) headers["content-range"] = `bytes ${start}-${content.length - 1}/${content.length}`;
    response.writeHead(start > 0 ? 206 : 200, headers);
    const cut = state.cut(path, start);
    for (let at = 0; at < part.length; at += 65536) {
      if (cut !== undefined && start + at >= cut) {
        // What was written has time to arrive: only the rest is lost.
        await new Promise((resolve) => setTimeout(resolve, 300));
        response.socket?.destroy();
        return;
      }
      response.write(part.subarray(at, at + 65536));
      if (state.pause > 0) await new Promise((resolve) => setTimeout(resolve, state.pause));
    }
    response.end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  return { url: `http://127.0.0.1:${port}/`, state, close: () => server.close() };
}
