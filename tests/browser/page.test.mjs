// The page that `splamc web` writes: its states, with the keyboard and as a screen reader has it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./browser.mjs";
import { ROOT, SPLAMC, WORK } from "./models.mjs";
import { serve } from "./server.mjs";

const SITE = join(WORK, "site");
const SCREENSHOTS = join(WORK, "screenshots");

let server;
let browser;
let page;

before(async () => {
  rmSync(SITE, { recursive: true, force: true });
  mkdirSync(SCREENSHOTS, { recursive: true });
  const model = join(ROOT, "examples/shapes/model");
  execFileSync(SPLAMC, ["web", model, "-o", SITE], { stdio: "ignore" });
  server = await serve({ site: SITE });
  browser = await launch();
  const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] });
  page = await context.newPage();
});

after(async () => {
  await browser?.close();
  server?.close();
});

const shot = (name) => page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });

test("nothing large is fetched before the button is pressed", async () => {
  await page.goto(`${server.url}site/index.html`);
  await page.getByRole("button", { name: /^Download \d/ }).waitFor();
  assert.match(await page.locator("#check").textContent(), /✓ WebGPU on .*; the largest network needs \d/);
  assert.ok(await page.getByRole("button", { name: "Generate" }).isDisabled());
  const large = server.state.requests.filter(({ path }) => /weights-|plan-|kernels-/.test(path));
  assert.deepEqual(large, []);
  await shot("checked");
});

test("a download can be paused and goes on", async () => {
  server.state.pause = 30;
  await page.getByRole("button", { name: /^Download \d/ }).click();
  await page.getByText(/^Downloading [1-9]/).waitFor();
  await shot("downloading");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused. What has arrived is kept.").waitFor();
  server.state.pause = 0;
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByText("Ready.").waitFor({ timeout: 170_000 });
});

test("a picture is made with the keyboard alone", async () => {
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await page.keyboard.type("a red circle on a blue background");
  await page.keyboard.press("Control+Enter");
  await page.getByText(/^Step 1 of 4/).waitFor();
  await shot("running");
  await page.getByText(/^Done in /).waitFor({ timeout: 60_000 });
  const picture = page.getByRole("img", { name: "a red circle on a blue background" });
  assert.equal(await picture.count(), 1);
  const [red, , blue] = await page.evaluate(() => {
    const { data } = document.querySelector("canvas").getContext("2d").getImageData(0, 0, 64, 64);
    const sums = [0, 0, 0];
    data.forEach((level, at) => { if (at % 4 < 3) sums[at % 4] += level; });
    return sums;
  });
  assert.ok(blue > red, "most of the picture is its blue background");
  await shot("done");
});

test("Escape stops a run, and the next one works", async () => {
  await page.keyboard.press("Control+Enter");
  await page.getByText(/^Step 1 of 4/).waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Stopped.").waitFor({ timeout: 2000 });
  assert.ok(await page.getByRole("button", { name: "Generate" }).isEnabled());
});

test("a run can be copied as a command and saved", async () => {
  await page.getByRole("button", { name: "Copy as command" }).click();
  await page.getByText("The command is on the clipboard.").waitFor();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(
    command,
    "splamc sample 'model.splam' -p 'a red circle on a blue background' --sampler lcm --steps 4 --cfg-scale 1 -s 0",
  );
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Save as PNG" }).click(),
  ]);
  const path = join(WORK, "saved.png");
  await download.saveAs(path);
  assert.equal(download.suggestedFilename(), "0.png");
});

test("an option that cannot be is told as an alert", async () => {
  await page.getByLabel("Steps", { exact: true }).fill("99");
  await page.getByRole("button", { name: "Generate" }).click();
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.textContent(), /^Steps is 99, which the sampler lcm cannot take/);
  await shot("refused");
});

test("every control has a name", async () => {
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, textarea, progress, canvas")]
      .filter((own) => {
        const label = own.labels?.length > 0 || own.getAttribute("aria-label");
        return !label && own.textContent.trim() === "";
      })
      .map((own) => own.id),
  );
  assert.deepEqual(nameless, []);
});
