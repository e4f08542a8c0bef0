"""Record what torch, diffusers and transformers compute, as golden files.

Takes: modules or a pipeline, and the folder to write to.
Gives: safetensors (floats f32, integers i64), PNG, JSON, in the layout that tests/golden/README.md
describes.
Never: chooses a configuration or a seed.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import pathlib
import sys

import diffusers
import numpy as np
import torch
import transformers
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

# A tokenizer case longer than this is cut, and ends in "...".
IDS_SHOWN = 90
# Every third pixel tells all seams in a ninth of the bytes; the picture beside it has them all.
KEPT = 3


@dataclasses.dataclass
class Run:
    """One call of a pipeline; height and width count latents.

    `scheduler` and `changes` give the sampler, through from_config.
    """

    tag: str
    scheduler: type
    prompt: str | list[str]
    negative_prompt: str | list[str] | None
    steps: int
    guidance_scale: float
    seed: int
    height: int = 16
    width: int = 16
    guidance_rescale: float = 0.0
    changes: dict = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> int:
        """Pictures per call."""
        return len(self.prompt) if isinstance(self.prompt, list) else 1


def save(tensors: dict[str, torch.Tensor], path: pathlib.Path) -> None:
    """Writes tensors: floats as f32, integers as i64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    as_written = {
        key: (value.float() if value.is_floating_point() else value.long()).contiguous()
        for key, value in tensors.items()
    }
    save_file(as_written, path, {"format": "pt"})


def write_json(value, path: pathlib.Path) -> None:
    """Writes indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    modules = (torch, diffusers, transformers)
    return {module.__name__: str(module.__version__) for module in modules}


def write_meta(folder: pathlib.Path, seed: int, holds: dict[str, str], **facts) -> None:
    """Writes a golden's meta.json: what each file holds, who made it, and the tensors' hashes."""
    files = sorted(folder.rglob("*.safetensors"))
    hashes = {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    made = {"script": "tests/scripts/make_goldens.py", "seed": seed, "versions": versions()}
    write_json({"made_by": made, "holds": holds, **facts, "sha256": hashes}, folder / "meta.json")


@contextlib.contextmanager
def drawn_noise(scheduler, draw):
    """Replaces the noise a scheduler draws by `draw(shape)`."""
    module = sys.modules[type(scheduler).__module__]
    original = getattr(module, "randn_tensor", None)
    if original is None:
        yield
        return
    module.randn_tensor = lambda shape, dtype=None, **_: draw(shape).to(dtype or torch.float32)
    try:
        yield
    finally:
        module.randn_tensor = original


def call_pipeline(
    pipe: StableDiffusionPipeline,
    run: Run,
    noise: list[torch.Tensor] | None = None,
    init: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Runs once in the pipeline's dtype; draws the latents and the step noise unless given."""
    pipe.scheduler = run.scheduler.from_config(pipe.scheduler.config, **run.changes)
    generator = torch.Generator().manual_seed(run.seed)
    if init is None:
        init = torch.randn((run.images, 4, run.height, run.width), generator=generator)
    drawn: list[torch.Tensor] = []

    def draw(shape) -> torch.Tensor:
        given = noise[len(drawn)] if noise else torch.randn(tuple(shape), generator=generator)
        drawn.append(given)
        return given

    network: dict[str, list[torch.Tensor]] = {"in": [], "out": []}

    def network_called(_module, arguments, output) -> None:
        network["in"].append(arguments[0].clone())
        network["out"].append(output[0].clone())

    latents: list[torch.Tensor] = []

    def step_done(_pipe, _index, _timestep, values) -> dict:
        latents.append(values["latents"].clone())
        return {}

    hook = pipe.unet.register_forward_hook(network_called)
    try:
        with drawn_noise(pipe.scheduler, draw), torch.no_grad():
            final = pipe(
                prompt=run.prompt,
                negative_prompt=run.negative_prompt,
                height=run.height * pipe.vae_scale_factor,
                width=run.width * pipe.vae_scale_factor,
                num_inference_steps=run.steps,
                guidance_scale=run.guidance_scale,
                guidance_rescale=run.guidance_rescale,
                latents=init.to(pipe.unet.dtype),
                output_type="latent",
                callback_on_step_end=step_done,
            ).images
            decoded = pipe.vae.decode(final / pipe.vae.config.scaling_factor).sample
    finally:
        hook.remove()
    tensors = {
        "init_latents": init,
        "latents": torch.stack(latents),
        "final_latents": final,
        "decoded": decoded,
        "unet_in_first": network["in"][0],
        "unet_out": torch.stack(network["out"]),
    }
    return tensors | ({"step_noise": torch.stack(drawn)} if drawn else {})


def thinned(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A run's tensors as they are stored: of what is decoded every third row and column."""
    kept = tensors["decoded"][:, :, ::KEPT, ::KEPT]
    others = {key: value for key, value in tensors.items() if key != "decoded"}
    return others | {"decoded_thirds": kept}


def as_bytes(decoded: torch.Tensor) -> np.ndarray:
    """[B,3,H,W] about -1 to 1, to [B,H,W,3] bytes, as diffusers' image processor rounds them."""
    image = (decoded.double() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return (image * 255).round().astype("uint8")


def record_run(pipe: StableDiffusionPipeline, run: Run, runs: pathlib.Path) -> None:
    """Writes `runs/<tag>/`: meta.json, tensors.safetensors, image_K.png."""
    from PIL import Image

    pipe.set_progress_bar_config(disable=True)
    tensors = call_pipeline(pipe, run)
    # The sinusoid of the timestep stays f32 inside diffusers; everything else is f64 here.
    exact_pipe = copy.deepcopy(pipe).to(torch.float64)
    noise = list(tensors.get("step_noise", []))
    exact = call_pipeline(exact_pipe, run, noise, tensors["init_latents"])
    folder = runs / run.tag
    save(thinned(tensors), folder / "tensors.safetensors")
    pixels, exact_pixels = as_bytes(tensors["decoded"]), as_bytes(exact["decoded"])
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"image_{index}.png")
    apart = (tensors["latents"].double() - exact["latents"]).abs()
    decoded_apart = (tensors["decoded"].double() - exact["decoded"]).abs().max()
    meta = {
        "tag": run.tag,
        "scheduler": type(pipe.scheduler).__name__,
        "scheduler_config": {
            key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")
        },
        "prompt": run.prompt,
        "negative_prompt": run.negative_prompt,
        "steps": run.steps,
        "guidance_scale": run.guidance_scale,
        "guidance_rescale": run.guidance_rescale,
        "height": run.height * pipe.vae_scale_factor,
        "width": run.width * pipe.vae_scale_factor,
        "timesteps": [float(t) for t in pipe.scheduler.timesteps],
        "final_latent_std": float(tensors["final_latents"].std()),
        "latent_std_per_step": [round(float(x.std()), 4) for x in tensors["latents"]],
        "image_saturated_fraction": float(np.mean((pixels == 0) | (pixels == 255))),
        "noise_draws": len(tensors.get("step_noise", [])),
        "images": run.images,
        "f32_vs_f64": {
            "latent_maxabs_per_step": [float(step.max()) for step in apart],
            "decoded_maxabs": float(decoded_apart),
            "png_pixels_differing": int(np.count_nonzero(pixels != exact_pixels)),
            "png_pixels": int(pixels.size),
        },
    }
    write_json(meta, folder / "meta.json")


def text_states(model, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """A text tower's `hidden_states.i`, `last_hidden_state`, pooled text and its input.

    The pooled text is `pooler_output`, or `text_embeds` where it is projected.
    """
    with torch.no_grad():
        out = model(input_ids=input_ids, output_hidden_states=True)
    states = {f"hidden_states.{i}": state for i, state in enumerate(out.hidden_states)}
    pooled = "text_embeds" if "text_embeds" in out else "pooler_output"
    ends = {"last_hidden_state": out.last_hidden_state, pooled: out[pooled]}
    return {"input_ids": input_ids} | states | ends


def vae_halves(model, image: torch.Tensor, latent: torch.Tensor) -> dict[str, torch.Tensor]:
    """Both halves of an autoencoder, each on an input of its own, and those inputs."""
    with torch.no_grad():
        posterior = model.encode(image).latent_dist
        decoded = model.decode(latent).sample
    tensors = {"image": image, "mean": posterior.mean, "logvar": posterior.logvar}
    return tensors | {"latent": latent, "decoded": decoded}


def unet_io(model, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A UNet's named inputs and `out_sample`."""
    added = {key: inputs[key] for key in ("text_embeds", "time_ids") if key in inputs}
    with torch.no_grad():
        out = model(
            inputs["sample"],
            inputs["timestep"],
            inputs["encoder_hidden_states"],
            timestep_cond=inputs.get("timestep_cond"),
            added_cond_kwargs=added or None,
        ).sample
    return inputs | {"out_sample": out}


def tokenizer_cases(tokenizer, texts: list[str]) -> list[dict]:
    """Each text's ids, and the 77 that the encoder sees."""
    cases = []
    for text in texts:
        ids = tokenizer(text).input_ids
        shown = ids if len(ids) <= IDS_SHOWN else [*ids[:IDS_SHOWN], "..."]
        padded = tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
        cases.append({"text": text, "ids": shown, "padded77": padded})
    return cases
