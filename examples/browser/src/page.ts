/**
 * The page: one model, from a check of this browser to a picture.
 *
 * Takes the address of an artifact, from `?model=` or from the page itself. Nothing large is fetched
 * before the button says so.
 */

import {
  cached, fetchManifest, lacks, Pipeline, remove, requestAdapter, totalBytes,
  type GenerateEvent, type Manifest, type Picture, type Progress,
} from "./index.js";
import { commandOf } from "./command.js";
import { element, failureText, show } from "./dom.js";
import { megabytes } from "./megabytes.js";
import { encodePng } from "./png.js";

const form = element("form", HTMLFormElement);
const prompt = element("prompt", HTMLTextAreaElement);
const negative = element("negative", HTMLTextAreaElement);
const seed = element("seed", HTMLInputElement);
const steps = element("steps", HTMLInputElement);
const sampler = element("sampler", HTMLSelectElement);
const scale = element("scale", HTMLInputElement);
const preview = element("preview", HTMLInputElement);
const canvas = element("canvas", HTMLCanvasElement);
const load = element("load", HTMLButtonElement);
const pause = element("pause", HTMLButtonElement);
const forget = element("delete", HTMLButtonElement);
const generate = element("generate", HTMLButtonElement);
const stop = element("stop", HTMLButtonElement);
const save = element("save", HTMLButtonElement);
const copy = element("copy", HTMLButtonElement);
const controls = element("controls", HTMLFieldSetElement);
const download = element("download", HTMLProgressElement);
const run = element("run", HTMLProgressElement);

let pipeline: Pipeline | undefined;
let loading: AbortController | undefined;
let running: AbortController | undefined;
let picture: Picture | undefined;

const address = new URL(location.href).searchParams.get("model") ??
  document.querySelector<HTMLMetaElement>("meta[name=splam-model]")?.content ?? "model.splam/";

function say(id: string, text: string): void {
  element(id, HTMLElement).textContent = text;
}

function fail(error: unknown): void {
  const text = failureText(error);
  say("error", text);
  show("error", text !== "");
}

/** Says what this browser lacks, and how much there is to fetch. */
async function check(): Promise<void> {
  const { base, manifest } = await fetchManifest(address);
  describe(manifest, base);
  const adapter = await requestAdapter();
  const missing = lacks(manifest, adapter);
  const { vendor, architecture } = adapter.info;
  const gpu = [vendor, architecture].filter((part) => part !== "").join(" ") || "a GPU";
  if (missing.length === 0) {
    const peak = megabytes(manifest.requirements.peak_bytes);
    say("check", `✓ WebGPU on ${gpu}; the largest network needs ${peak} of its memory.`);
  } else {
    say("check", `✗ WebGPU on ${gpu} is too small for this model:`);
    const items = missing.map(({ what, wanted, found }) => {
      const item = document.createElement("li");
      item.textContent = `${what} is ${found}; the model needs ${wanted}`;
      return item;
    });
    element("lacks", HTMLElement).replaceChildren(...items);
    show("lacks", true);
    return;
  }
  const kept = (await cached()).find((model) => model.url === base);
  const total = megabytes(totalBytes(manifest));
  say("size", kept === undefined ? `${total} to download.` : `${total}, kept in this browser.`);
  load.textContent = kept === undefined ? `Download ${total}` : "Load";
  load.disabled = false;
  show("load", true);
  show("delete", kept !== undefined);
  forget.onclick = () => void removeModel(base);
}

function describe(manifest: Manifest, base: string): void {
  const folder = decodeURIComponent(new URL(".", base).pathname).split("/").at(-2) ?? "";
  const name = folder.replace(/\.splam$/, "") || "Model";
  say("name", name);
  document.title = `${name} · splamc`;
  const { height, width } = manifest.picture;
  const steps = manifest.pipeline.distilled?.steps;
  const made = steps === undefined ? "" : `, made for ${steps} steps`;
  say("about", `${width}×${height} pixels, ${manifest.dtype}${made}. Runs on your GPU; nothing is sent anywhere.`);
  canvas.width = width;
  canvas.height = height;
}

async function loadModel(): Promise<void> {
  loading = new AbortController();
  fail(undefined);
  load.disabled = true;
  show("pause", true);
  show("download", true);
  try {
    const { signal } = loading;
    pipeline = await Pipeline.from(address, { signal, onProgress });
    ready(pipeline);
  } catch (error) {
    const isPaused = loading.signal.aborted;
    say("loading", isPaused ? "Paused. What has arrived is kept." : "");
    if (!isPaused) fail(error);
    load.textContent = isPaused ? "Go on" : "Try again";
    load.disabled = false;
    load.focus();
  } finally {
    loading = undefined;
    show("pause", false);
    show("download", pipeline === undefined);
  }
}

function onProgress(progress: Progress): void {
  if (progress.phase === "prepare") {
    say("loading", `Preparing ${progress.component} …`);
    return;
  }
  download.value = progress.loaded / progress.total;
  const share = `${megabytes(progress.loaded)} of ${megabytes(progress.total)}`;
  say("loading", progress.cached ? `Reading ${share} …` : `Downloading ${share} …`);
}

function ready(own: Pipeline): void {
  say("size", `${megabytes(totalBytes(own.manifest))}, loaded.`);
  say("loading", "Ready.");
  show("load", false);
  show("delete", true);
  const options = ["", ...own.samplers].map((name) => new Option(name || "automatic", name));
  sampler.replaceChildren(...options);
  const { distilled } = own.manifest.pipeline;
  show("negative-part", distilled?.guidance !== 1);
  controls.disabled = false;
  generate.disabled = false;
  prompt.focus();
}

async function removeModel(base: string): Promise<void> {
  await pipeline?.dispose();
  pipeline = undefined;
  await remove(base);
  controls.disabled = true;
  generate.disabled = true;
  say("loading", "Deleted from this browser.");
  await check();
}

async function makePicture(own: Pipeline): Promise<void> {
  running = new AbortController();
  fail(undefined);
  generate.disabled = true;
  stop.disabled = false;
  show("run", true);
  run.removeAttribute("value");
  const started = performance.now();
  const wantsPreview = preview.checked && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  try {
    const events = own.generate({
      prompt: prompt.value,
      negativePrompt: negative.value,
      seed: BigInt(seed.value),
      preview: wantsPreview ? 1 : 0,
      signal: running.signal,
      ...(steps.value === "" ? {} : { steps: steps.valueAsNumber }),
      ...(sampler.value === "" ? {} : { sampler: sampler.value }),
      ...(scale.value === "" ? {} : { guidanceScale: scale.valueAsNumber }),
    });
    for await (const event of events) hear(event, started);
  } catch (error) {
    say("status", running.signal.aborted ? "Stopped." : "");
    if (!running.signal.aborted) fail(error);
  } finally {
    running = undefined;
    generate.disabled = false;
    stop.disabled = true;
    show("run", false);
  }
}

function hear(event: GenerateEvent, started: number): void {
  switch (event.type) {
    case "text": {
      const cut = event.truncated ? `; the prompt has ${event.tokens} tokens and is cut` : "";
      say("status", `Text encoded${cut}.`);
      break;
    }
    case "step":
      run.value = event.step / event.steps;
      say("status", `Step ${event.step} of ${event.steps}, ${(event.milliseconds / 1000).toFixed(1)} s`);
      if (event.preview !== undefined) draw(event.preview, "The picture so far");
      break;
    case "recovered":
      say("status", "The GPU was lost and is back; the run goes on.");
      break;
    case "image": {
      picture = event;
      draw(event.image, event.settings.prompt);
      say("parameters", event.parameters);
      say("status", `Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
      save.disabled = false;
      copy.disabled = false;
    }
  }
}

function draw(image: ImageData, label: string): void {
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", label);
}

async function savePicture(own: Picture): Promise<void> {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await encodePng(own.image, own.parameters));
  link.download = `${own.settings.seed}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function copyCommand(own: Picture): Promise<void> {
  const name = element("name", HTMLElement).textContent ?? "model";
  await navigator.clipboard.writeText(commandOf(own.settings, `${name}.splam`));
  say("status", "The command is on the clipboard.");
}

load.onclick = () => void loadModel();
pause.onclick = () => loading?.abort();
stop.onclick = () => running?.abort();
save.onclick = () => void (picture && savePicture(picture));
copy.onclick = () => void (picture && copyCommand(picture).catch(fail));
element("dice", HTMLButtonElement).onclick = () => {
  seed.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
};
form.onsubmit = (event) => {
  event.preventDefault();
  if (pipeline !== undefined && running === undefined) void makePicture(pipeline);
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  if (event.key === "Escape") running?.abort();
});

check().catch((error: unknown) => {
  say("check", `✗ ${failureText(error)}`);
});
