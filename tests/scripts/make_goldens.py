#!/usr/bin/env python3
"""Make the golden files of tests/golden from torch, diffusers and transformers.

Takes: an output folder, the goldens' names (default: all of them) and optionally another seed.
Gives: OUT/<name>/ for each, in the layout that tests/golden/README.md describes. With the versions
of requirements-dev.txt and the default seeds these are the committed files: models and inputs bit
for bit, results to a few f32 roundings.
Never: downloads anything; the tokenizer is the committed tiny one.

Needs: requirements-dev.txt.
Example: python3 tests/scripts/make_goldens.py /tmp/goldens --only sd21 sdxl_unet
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import diffusers
import random_weights
import recording
import tiny_models
import torch
import transformers
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from recording import (
    Run,
    record_run,
    save,
    text_states,
    tokenizer_cases,
    unet_io,
    vae_halves,
    write_json,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
TOKENIZER = GOLDEN / "pipeline/model/tokenizer"
TEXTS = GOLDEN / "pipeline/tokenizer_cases.json"
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPT = "a highly detailed photo of a castle, cinematic lighting"
BAD = "blurry, bad quality"
# PNDM as Stable Diffusion has it: without Runge-Kutta steps.
PLAIN = {"skip_prk_steps": True}
# Shards are this small so that a tiny model has several.
SHARD_BYTES = 80_000


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Unit normal values of a seed of their own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokenizer_texts() -> list[str]:
    """The texts that tokenizers are tried on."""
    return [case["text"] for case in json.loads(TEXTS.read_text())]


def vae_io(vae, image_size: tuple[int, int], latent_size: tuple[int, int], seed: int):
    """Both halves of an autoencoder on random inputs."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((1, 3, *image_size), generator=generator) * 2 - 1
    latent = torch.randn((1, 4, *latent_size), generator=generator)
    return vae_halves(vae, image, latent)


def save_pipeline(pipe: StableDiffusionPipeline, model: pathlib.Path, pad_token: str) -> None:
    """Writes a pipeline directory whose tokenizer is vocab.json and merges.txt, as checkpoints'."""
    pipe.save_pretrained(model)
    shutil.rmtree(model / "tokenizer")
    shutil.copytree(TOKENIZER, model / "tokenizer", copy_function=shutil.copyfile)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = model / "tokenizer" / name
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"pad_token": pad_token}, indent=2) + "\n")


def pipeline_of(unet, vae, text_encoder, tokenizer, scheduler) -> StableDiffusionPipeline:
    """A pipeline without safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def record_runs(pipe: StableDiffusionPipeline, runs: list[Run], out: pathlib.Path) -> None:
    """Records each run with the scheduler that `model/` holds as its starting point."""
    for run in runs:
        # Read back, every option counts as given; made in memory, defaults would give way to those
        # of the run's own scheduler class.
        pipe.scheduler = DDIMScheduler.from_pretrained(out / "model/scheduler")
        record_run(pipe, run, out / "runs")


def make_pipeline(out: pathlib.Path, seed: int) -> None:
    """A Stable Diffusion 1.5 pipeline and six runs."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    text_encoder = tiny_models.text_encoder(seed + 1)
    vae = tiny_models.vae(seed + 2)
    pipe = pipeline_of(tiny_models.unet_sd15(seed), vae, text_encoder, tokenizer, scheduler)
    save_pipeline(pipe, out / "model", "<|endoftext|>")
    two, negative = ["a dog", "a river"], ["", "dark"]
    runs = [
        Run("ddim20_cfg7.5", DDIMScheduler, PROMPT, BAD, 20, 7.5, seed + 10),
        Run("dpmpp2m_8_cfg7.5", DPMSolverMultistepScheduler, PROMPT, BAD, 8, 7.5, seed + 11),
        Run("euler6_nocfg_24x16", EulerDiscreteScheduler, "a cat", None, 6, 1.0, seed + 12, 24),
        Run("lcm4_cfg1.5", LCMScheduler, PROMPT, "", 4, 1.5, seed + 13),
        Run("pndm10_cfg5_b2", PNDMScheduler, two, negative, 10, 5.0, seed + 14, changes=PLAIN),
    ]
    record_runs(pipe, runs, out)
    lcm_unet = tiny_models.unet_sd15(seed + 3, (16, 32), time_cond_proj_dim=256)
    lcm_unet.save_pretrained(out / "model_lcm/unet")
    lcm = pipeline_of(lcm_unet, vae, text_encoder, tokenizer, LCMScheduler(**SCHEDULE))
    embedded = Run("lcm4_w8_timestepcond", LCMScheduler, PROMPT, None, 4, 8.5, seed + 15)
    record_run(lcm, embedded, out / "runs")
    padded = tokenizer(["", PROMPT], padding="max_length", max_length=77, return_tensors="pt")
    save(text_states(text_encoder, padded.input_ids), out / "text_encoder_io.safetensors")
    save(vae_io(vae, (64, 64), (8, 8), seed + 20), out / "vae_io.safetensors")
    write_json(tokenizer_cases(tokenizer, tokenizer_texts()), out / "tokenizer_cases.json")
    for component, own in (
        ("model/unet", seed),
        ("model/text_encoder", seed + 1),
        ("model/vae", seed + 2),
        ("model_lcm/unet", seed + 3),
    ):
        random_weights.describe(out / component, own)
    holds = {
        "model/": "diffusers pipeline: four heads per level, convolutional projections, factor 8",
        "model_lcm/unet/": "a UNet that is told the guidance",
        "runs/<tag>/": "calls of the pipeline",
    }
    recording.write_meta(out, seed, holds)


def make_sd21(out: pathlib.Path, seed: int) -> None:
    """A Stable Diffusion 2.1 pipeline: v-prediction, zero terminal SNR, padding by "!"."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!")
    # eos_token_id 2 is what old CLIP configs say: pool at the largest id, wherever 2 may stand.
    text_encoder = tiny_models.text_encoder(
        seed + 1,
        hidden_size=24,
        num_attention_heads=3,
        intermediate_size=40,
        hidden_act="gelu",
        eos_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
    )
    vae = tiny_models.vae(seed + 2, (8, 8, 16))
    v_prediction = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    scheduler = DDIMScheduler(
        **SCHEDULE, **v_prediction, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipe = pipeline_of(tiny_models.unet_sd21(seed), vae, text_encoder, tokenizer, scheduler)
    save_pipeline(pipe, out / "model", "!")
    two = ["a dog!", PROMPT]
    runs = [
        Run(
            tag="euler4_cfg6_rescale0.7_30x22_b2",
            scheduler=EulerDiscreteScheduler,
            prompt=two,
            negative_prompt=["", "blurry, bad quality"],
            steps=4,
            guidance_scale=6.0,
            guidance_rescale=0.7,
            height=30,
            width=22,
            seed=seed + 10,
        ),
        Run(
            "ddim5_cfg7.5_rescale0.7", DDIMScheduler, PROMPT, "dark", 5, 7.5, seed + 11, 16, 24, 0.7
        ),
        Run("ddim3_nocfg", DDIMScheduler, "a river", None, 3, 1.0, seed + 12, 14, 10),
    ]
    record_runs(pipe, runs, out)
    padded = tokenizer(["", two[0]], padding="max_length", max_length=77, return_tensors="pt")
    save(text_states(text_encoder, padded.input_ids), out / "text_encoder_io.safetensors")
    save(vae_io(vae, (40, 24), (5, 3), seed + 20), out / "vae_io.safetensors")
    texts = [*tokenizer_texts(), "hello world! a!! b", "!", "!!!!", "a !? b"]
    write_json(tokenizer_cases(tokenizer, texts), out / "tokenizer_cases.json")
    holds = {
        "model/": "diffusers pipeline: v-prediction UNet of four levels with linear projections,"
        " heads per level and upcast attention; autoencoder of factor 4; erf-GELU text tower;"
        " tokenizer padding by '!'",
        "runs/<tag>/": "as in pipeline/runs; latents of 30x22 and 14x10 are odd at some level",
        "text_encoder_io.safetensors": "as in pipeline",
        "vae_io.safetensors": "as in pipeline",
        "tokenizer_cases.json": "as in pipeline; '!' is a special token here, so it splits words",
    }
    recording.write_meta(out, seed, holds)


def make_sdxl_unet(out: pathlib.Path, seed: int) -> None:
    """An SDXL UNet alone."""
    unet = tiny_models.unet_sdxl(seed)
    unet.save_pretrained(out / "unet")
    write_lone_index(out, "StableDiffusionXLPipeline")
    sizes = torch.tensor([[144.0, 112, 0, 0, 144, 112], [1024, 1024, 16, 8, 512, 768]])
    inputs = {
        "sample": normal(seed + 1, 2, 4, 18, 14),
        "timestep": torch.tensor(601.0),
        "encoder_hidden_states": normal(seed + 2, 2, 77, 28),
        "text_embeds": normal(seed + 3, 2, 20),
        "time_ids": sizes,
    }
    save(unet_io(unet, inputs), out / "io.safetensors")
    per_picture = inputs | {"timestep": torch.tensor([999.0, 123.456])}
    save(unet_io(unet, per_picture), out / "io_timesteps.safetensors")
    random_weights.describe(out / "unet", seed)
    holds = {
        "unet/": "UNet with text_time conditioning, head widths 10 and 6, depths 1, 2 and 3",
        "io.safetensors": "inputs by optimum's names, scalar timestep; out_sample",
        "io_timesteps.safetensors": "the same with a timestep per picture, one of them fractional",
    }
    recording.write_meta(out, seed, holds)


def write_lone_index(folder: pathlib.Path, pipeline: str) -> None:
    """A model_index.json that names a UNet and nothing else."""
    index = {"_class_name": pipeline, "unet": ["diffusers", "UNet2DConditionModel"]}
    write_json(index, folder / "model_index.json")


def make_unet_files(out: pathlib.Path, seed: int) -> None:
    """One UNet in the file layouts that diffusers writes: f16 variant, shards, both."""
    unet = tiny_models.unet_sd15(seed, (8, 16), layers_per_block=1, norm_num_groups=4)
    # Rounded to f16 first, so that all the layouts hold the same numbers.
    unet.half().float()
    for name, variant, shard_bytes in (
        ("sharded", None, SHARD_BYTES),
        ("fp16", "fp16", 10**9),
        ("sharded_fp16", "fp16", SHARD_BYTES),
    ):
        written = unet.half() if variant else unet.float()
        folder = out / name
        written.save_pretrained(folder / "unet", variant=variant, max_shard_size=shard_bytes)
        write_lone_index(folder, "StableDiffusionPipeline")
    inputs = {
        "sample": normal(seed + 1, 1, 4, 12, 10),
        "timestep": torch.tensor(437.0),
        "encoder_hidden_states": normal(seed + 2, 1, 77, 32),
    }
    save(unet_io(unet.float(), inputs), out / "io.safetensors")
    holds = {
        "sharded/unet/": "f32 shards and diffusion_pytorch_model.safetensors.index.json",
        "fp16/unet/": "diffusion_pytorch_model.fp16.safetensors alone",
        "sharded_fp16/unet/": "f16 shards and their index",
        "io.safetensors": "inputs and out_sample of all three, computed in f32",
    }
    recording.write_meta(out, seed, holds)


def redraw(path: pathlib.Path, shapes: dict[str, torch.Size], seed: int) -> None:
    """Writes a file of weights drawn for the names that it has them under."""
    drawn = {name: random_weights.parameter(seed, name, tuple(shape)) for name, shape in shapes.items()}
    save_file({key: torch.from_numpy(value) for key, value in drawn.items()}, path, {"format": "pt"})


def make_vae_old_keys(out: pathlib.Path, seed: int) -> None:
    """An autoencoder whose attention has the names that diffusers wrote before 0.14."""
    vae = tiny_models.vae(seed, (8, 16))
    vae.save_pretrained(out / "vae")
    path = out / "vae/diffusion_pytorch_model.safetensors"
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old_name(key: str) -> str:
        for new, old in old_names.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        return key

    redraw(path, {old_name(key): value.shape for key, value in load_file(path).items()}, seed)
    # The golden is what diffusers itself reads back from the old names.
    again = type(vae).from_pretrained(out / "vae").eval()
    save(vae_io(again, (20, 28), (10, 7), seed + 1), out / "vae_io.safetensors")
    random_weights.describe(out / "vae", seed)
    holds = {
        "vae/": "autoencoder of factor 2 with query, key, value and proj_attn",
        "vae_io.safetensors": "as in pipeline",
    }
    recording.write_meta(out, seed, holds)


def make_text_encoders(out: pathlib.Path, seed: int) -> None:
    """CLIP text towers under both spellings of their keys and both rules for pooling."""
    ids = torch.full((3, 77), 933)
    ids[:, 0] = 932
    ids[0, 1:9] = torch.tensor([320, 838, 776, 320, 609, 2, 5, 7])
    ids[1, 1:5] = torch.tensor([2, 609, 320, 2])
    # No end token at all, and the largest id early: only the rule of eos_token_id 2 has a place.
    ids[2] = torch.arange(77) + 100
    ids[2, 3] = 931
    for name, prefix, eos in (("prefixed", "text_model.", 2), ("bare", "", 933)):
        model = tiny_models.text_encoder(seed, hidden_size=20, num_attention_heads=2)
        model.config.eos_token_id = eos
        folder = out / name / "text_encoder"
        model.save_pretrained(folder)
        path = folder / "model.safetensors"
        shapes = {key: value.shape for key, value in load_file(path).items()}
        plain = {prefix + key.removeprefix("text_model."): shapes[key] for key in shapes}
        redraw(path, plain, seed)
        # The golden is what transformers reads back from this spelling.
        again = transformers.CLIPTextModel.from_pretrained(folder).eval()
        rows = ids if eos == 2 else ids[:2]
        save(text_states(again, rows), out / name / "text_encoder_io.safetensors")
        random_weights.describe(folder, seed)
    holds = {
        "prefixed/": "keys start with text_model.; eos_token_id 2: pooled at the largest id, where"
        " it stands first",
        "bare/": "keys have no prefix, as transformers 5 writes; pooled at the first id 933",
        "*/text_encoder_io.safetensors": "as in pipeline",
    }
    recording.write_meta(out, seed, holds)


# Each is what a UNet of Stable Diffusion is not, and the size of the latents to try it on.
UNET_VARIANTS = {
    "thin_middle": (
        {
            "mid_block_type": "UNetMidBlock2D",
            "downsample_padding": 0,
            "center_input_sample": True,
            "conv_in_kernel": 1,
            "conv_out_kernel": 5,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "time_embedding_dim": 40,
            "time_cond_proj_dim": 6,
        },
        (6, 4),
    ),
    "no_middle": (
        {
            "mid_block_type": None,
            "only_cross_attention": (True, False),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
        },
        (7, 5),
    ),
    "uneven_depths": (
        {
            "only_cross_attention": True,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "transformer_layers_per_block": ((2,), (0,)),
            "reverse_transformer_layers_per_block": ((0, 1), (2, 1)),
        },
        (3, 4),
    ),
}


def make_variants(out: pathlib.Path, seed: int) -> None:
    """Networks with the options that published pipelines rarely use."""
    for number, (name, (changes, size)) in enumerate(UNET_VARIANTS.items()):
        base = {"layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 8}
        unet = tiny_models.unet_sd15(seed + number, (8, 16), **base | changes)
        unet.save_pretrained(out / name / "unet")
        inputs = {
            "sample": normal(seed + 10, 2, 4, *size),
            "timestep": torch.tensor(601.0),
            "encoder_hidden_states": normal(seed + 11, 2, 3, 8),
        }
        if unet.config.time_cond_proj_dim:
            inputs["timestep_cond"] = normal(seed + 12, 2, 6)
        save(unet_io(unet, inputs), out / name / "io.safetensors")
        random_weights.describe(out / name / "unet", seed + number)
    changes = {"mid_block_add_attention": False, "use_quant_conv": False}
    vae = tiny_models.vae(seed + 20, (4, 8, 8), use_post_quant_conv=False, **changes)
    vae.save_pretrained(out / "bare_vae/vae")
    save(vae_io(vae, (9, 14), (3, 2), seed + 21), out / "bare_vae/vae_io.safetensors")
    random_weights.describe(out / "bare_vae/vae", seed + 20)
    projected = {"kind": CLIPTextModelWithProjection, "projection_dim": 12}
    text = tiny_models.text_encoder(seed + 30, hidden_act="gelu_new", hidden_size=8, **projected)
    text.save_pretrained(out / "projected_text/text_encoder")
    ids = torch.full((2, 77), 933)
    ids[0, :4] = torch.tensor([932, 320, 609, 933])
    ids[1, :76] = torch.arange(76) + 500
    save(text_states(text, ids), out / "projected_text/text_encoder_io.safetensors")
    random_weights.describe(out / "projected_text/text_encoder", seed + 30)
    holds = {
        "thin_middle, no_middle, uneven_depths": "UNets; inputs and out_sample in io.safetensors",
        "bare_vae": "autoencoder without attention and without quantising convolutions",
        "projected_text": "text tower with projection and the tanh form of GELU",
    }
    recording.write_meta(out, seed, holds)


GOLDENS = {
    "pipeline": (make_pipeline, 20240),
    "sd21": (make_sd21, 21100),
    "sdxl_unet": (make_sdxl_unet, 31000),
    "text_encoders": (make_text_encoders, 41000),
    "unet_files": (make_unet_files, 51000),
    "variants": (make_variants, 71000),
    "vae_old_keys": (make_vae_old_keys, 61000),
}


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=sorted(GOLDENS), default=sorted(GOLDENS))
    parser.add_argument("--seed", type=int, help="instead of each golden's own")
    return parser.parse_args()


def main() -> int:
    """Makes each golden beside its place, then puts it there."""
    options = parse_arguments()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    # Old configurations are the point of some goldens; diffusers warns of each.
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        make, seed = GOLDENS[name]
        with tempfile.TemporaryDirectory(dir=options.out) as scratch:
            beside = pathlib.Path(scratch) / name
            beside.mkdir()
            make(beside, seed if options.seed is None else options.seed)
            shutil.rmtree(options.out / name, ignore_errors=True)
            beside.rename(options.out / name)
        total = sum(f.stat().st_size for f in (options.out / name).rglob("*") if f.is_file())
        print(f"{name}: {total / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
