#!/usr/bin/env python3
"""Compute the goldens' results again from the inputs and weights stored in them.

Takes: golden folders in the layout that tests/golden/README.md describes.
Gives: a line per file with the largest difference as a share of the largest magnitude; exit code 1
when one is above its bar.
Never: writes anything.

It reads models as any user would, by from_pretrained, so it also shows that what is stored loads.
Needs: requirements-dev.txt.
Example: python3 tests/scripts/check_goldens.py tests/golden/pipeline tests/golden/sd21
"""

import argparse
import json
import pathlib
import sys
import warnings

import diffusers
import random_weights
import recording
import tiled_decode
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/tiny-model"
# One network call, and a whole run: a run's few calls pass rounding on, PNDM the most.
CALL_BAR = 1e-5
RUN_BAR = 2e-4


def share(got: torch.Tensor, want: torch.Tensor) -> float:
    """Largest difference over largest magnitude."""
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())


def worst(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> float:
    """The largest share over the tensors that both name."""
    if missing := want.keys() - got.keys():
        raise KeyError(f"not computed: {sorted(missing)}")
    return max(share(got[key], value) for key, value in want.items())


def model_of(golden: pathlib.Path) -> pathlib.Path:
    """The pipeline that a golden folder's results are of."""
    if golden.name == "sd21":
        return EXAMPLE
    return golden / "model" if (golden / "model").is_dir() else golden


def check_run(golden: pathlib.Path, folder: pathlib.Path) -> float:
    """Runs the pipeline again from the stored latents and noise."""
    meta = json.loads((folder / "meta.json").read_text())
    want = load_file(folder / "tensors.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(model_of(golden))
    if "timestepcond" in meta["tag"]:
        pipe.unet = UNet2DConditionModel.from_pretrained(golden / "model_lcm/unet")
    pipe.set_progress_bar_config(disable=True)
    run = recording.Run(
        tag=meta["tag"],
        scheduler=getattr(diffusers, meta["scheduler"]),
        prompt=meta["prompt"],
        negative_prompt=meta["negative_prompt"],
        steps=meta["steps"],
        guidance_scale=meta["guidance_scale"],
        guidance_rescale=meta.get("guidance_rescale", 0.0),
        seed=0,
        height=meta["height"] // pipe.vae_scale_factor,
        width=meta["width"] // pipe.vae_scale_factor,
        changes=meta["scheduler_config"],
    )
    noise = list(want.get("step_noise", []))
    got = recording.thinned(recording.call_pipeline(pipe, run, noise, want["init_latents"]))
    return worst(got, want)


def check_text(model: pathlib.Path, path: pathlib.Path) -> float:
    """Runs the text tower again."""
    want = load_file(path)
    kind = CLIPTextModelWithProjection if "text_embeds" in want else CLIPTextModel
    return worst(recording.text_states(kind.from_pretrained(model), want["input_ids"]), want)


def check_vae(model: pathlib.Path, path: pathlib.Path) -> float:
    """Runs both halves of the autoencoder again."""
    want = load_file(path)
    vae = AutoencoderKL.from_pretrained(model).eval()
    return worst(recording.vae_halves(vae, want["image"], want["latent"]), want)


def check_tiling(golden: pathlib.Path, path: pathlib.Path) -> float:
    """Decodes the tiles of a run again and blends them."""
    vae = AutoencoderKL.from_pretrained(golden / "model/vae").eval()
    run = load_file(golden / "runs" / tiled_decode.RUN / "tensors.safetensors")
    decoded = tiled_decode.tiled_decode(vae, run["final_latents"])
    return worst(recording.thinned({"decoded": decoded}), load_file(path))


def check_unet(model: pathlib.Path, path: pathlib.Path) -> float:
    """Runs the UNet again, whichever layout its files have."""
    want = load_file(path)
    variant = "fp16" if list(model.glob("*.fp16*")) else None
    unet = UNet2DConditionModel.from_pretrained(
        model, variant=variant, torch_dtype=torch.float32
    ).eval()
    inputs = {key: value for key, value in want.items() if key != "out_sample"}
    return worst(recording.unet_io(unet, inputs), want)


def check_tokenizer(model: pathlib.Path, path: pathlib.Path) -> float:
    """Gives the share of texts whose ids differ."""
    want = json.loads(path.read_text())
    tokenizer = CLIPTokenizer.from_pretrained(model)
    got = recording.tokenizer_cases(tokenizer, [case["text"] for case in want])
    return sum(g != w for g, w in zip(got, want, strict=True)) / len(want)


def checks_of(golden: pathlib.Path):
    """Yields (what, bar, share) for every result that a golden folder stores."""
    for folder in sorted(golden.glob("runs/*")):
        yield folder.relative_to(golden), RUN_BAR, check_run(golden, folder)
    model = model_of(golden)
    for path in sorted(golden.rglob("text_encoder_io.safetensors")):
        home = model if path.parent == golden else path.parent
        yield path.relative_to(golden), CALL_BAR, check_text(home / "text_encoder", path)
    for path in sorted(golden.glob("vae_io.safetensors")):
        yield path.relative_to(golden), CALL_BAR, check_vae(model / "vae", path)
    for path in sorted(golden.glob("vae_tiling.safetensors")):
        yield path.relative_to(golden), CALL_BAR, check_tiling(golden, path)
    for path in sorted(golden.glob("io*.safetensors")):
        for unet in sorted(golden.rglob("unet")):
            what = f"{path.name} by {unet.relative_to(golden)}"
            yield what, CALL_BAR, check_unet(unet, path)
    for path in sorted(golden.glob("tokenizer_cases.json")):
        yield path.relative_to(golden), 0.0, check_tokenizer(model / "tokenizer", path)


def main() -> int:
    """Checks each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("golden", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    passed = failed = 0
    for golden in options.golden:
        with random_weights.complete(golden) as folder:
            for what, bar, apart in checks_of(folder):
                good = apart <= bar
                passed, failed = passed + good, failed + (not good)
                print(f"{golden.name}/{what}: {apart:.1e}{'' if good else f', above {bar:.0e}'}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
