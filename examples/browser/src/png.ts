/**
 * Pictures as PNG files with the `parameters` text that A1111 and ComfyUI read.
 *
 * Takes pixels and a text; gives the bytes of a file. The browser's own encoder writes no text, so
 * that chunk is put into what it wrote.
 */

const KEYWORD = "parameters";

/** A PNG file of an image, with a text. */
export async function encodePng(image: ImageData, parameters: string): Promise<Blob> {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  const plain = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  // The signature has 8 bytes, and the header chunk that comes first has 25.
  const place = 8 + 25;
  const text = textChunk(parameters);
  return new Blob([plain.slice(0, place), text, plain.slice(place)], { type: "image/png" });
}

/** Latin-1 text is what other tools look for first; anything else needs an iTXt chunk. */
function textChunk(text: string): Uint8Array<ArrayBuffer> {
  const isAscii = /^[\x00-\x7f]*$/.test(text);
  const head = isAscii ? `${KEYWORD}\0` : `${KEYWORD}\0\0\0\0\0`;
  const body = new TextEncoder().encode((isAscii ? "tEXt" : "iTXt") + head + text);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc32(body));
  return chunk;
}

function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
