"""Checks of mutate_pipelines.py about what files mean, and in which words they are refused.

Takes: runs (`pipeline_run.Run`), whose models are changed.
Gives: one function per check, which raises `Misbehaved`. What a model means is compared with what
the same `splamc` makes of another spelling.
Never: needs a reference from outside but the results of onnxruntime in `tests/golden`.
"""

import json
import os

import mutate
from pipeline_run import (
    ONNX,
    POINTER,
    SIZE,
    WEIGHTS,
    edit,
    floats_of,
    is_same,
    load_tensors,
    map_tensor,
    parts,
    require,
    shuffle_nodes,
    widen_vocabulary,
)

NETWORKS = ["text_encoder/config.json", "unet/config.json", "vae/config.json"]
CONFIGS = ["model_index.json", "scheduler/scheduler_config.json", *NETWORKS]
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
# Schedulers by diffusers' names. The first do not agree on the latents of two steps.
DISTINCT = ["DDIM", "DPMSolverMultistep", "EulerAncestralDiscrete", "LCM", "PNDM", "TCD"]
SCHEDULERS = [*DISTINCT, "DDPM", "EulerDiscrete", "UniPCMultistep", "DEISMultistep", "HeunDiscrete", "LMSDiscrete",
              "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSinglestep", "IPNDM", "EDMEuler"]
OTHER_PIPELINES = ["AltDiffusionPipeline", "StableDiffusionGLIGENPipeline", "StableUnCLIPPipeline"]
CHANNELS = {5: "depth", 7: "upscal", 8: "InstructPix2Pix", 9: "inpainting"}


# --- What has to mean the same, or anything at all -----------------------------------------------


def scheduler(model, of_index, of_config, **keys):
    """Writes the schedulers that the index and the configuration name, each a diffusers class."""
    named = {} if of_config is None else {"_class_name": f"{of_config}Scheduler"}
    (model / "scheduler/scheduler_config.json").write_text(json.dumps({**SCHEDULE, **named, **keys}))
    edit(model / "model_index.json", scheduler=["diffusers", f"{of_index}Scheduler"])


def two_schedulers(run):
    """The index decides over a configuration that diffusers saved or that names no class."""
    model = run.copy()
    index, config = run.rng.sample(DISTINCT, 2)
    saved = {"_diffusers_version": "0.30.0"}
    kinds = [(saved, config, index), (saved, None, index), ({}, None, index), ({}, config, config)]
    keys, of_config, meant = run.rng.choice(kinds)
    scheduler(model, index, of_config, **keys)
    run.lines.append(f"index {index}, configuration {of_config} {keys}")
    found = run.latents(model)
    scheduler(model, meant, meant, **saved)
    require(is_same(found, run.latents(model)), f"not the latents of {meant}")


def class_of_config(run):
    """The index decides over the class that a network's configuration names."""
    model = run.copy()
    wanted = run.latents(model)
    edit(model / run.rng.choice(NETWORKS), _class_name=run.rng.choice(["X", ["my", "X"], 3, None]))
    require(is_same(wanted, run.latents(model)), "other latents")


def named_scheduler(run):
    """Every scheduler that published pipelines name, with the noise levels that they name."""
    model, name = run.copy(), run.rng.choice(SCHEDULERS)
    levels = run.rng.choice([{}, {f"use_{run.rng.choice(['beta', 'exponential', 'karras'])}_sigmas": True}])
    scheduler(model, name, name, prediction_type=run.rng.choice(["epsilon", "v_prediction"]), **levels)
    run.lines.append(f"{name} {levels}")
    run.latents(model)


def steps_by_hand(run):
    """Timesteps and noise levels that the user lists."""
    model = run.copy()
    scheduler(model, "EulerDiscrete", "EulerDiscrete")
    names = ["euler", "heun", "dpm++2m", "ddpm", "lcm", "tcd"]
    steps = ["--sampler", run.rng.choice(names), "--timesteps", "999,499"]
    levels = ["--sampler", "euler", "--sigmas", "12,3,0.5,0"]
    run.succeed("sample", "model", "-p", "x", *SIZE, *run.rng.choice([steps, levels]))


def noise_of_tcd(run):
    """TCD draws no noise unless asked to: the seed says nothing once the first latents are given."""
    model = run.copy()
    scheduler(model, "TCD", "TCD")
    mutate.save_tensors(run.folder / "first.st", {"init_latents": mutate.floats(mutate.LATENTS)})
    seeds = run.rng.sample("0123456789", 2)
    first, second = (run.latents(model, "--latents-in", "first.st", "-s", seed) for seed in seeds)
    require(is_same(first, second), "noise at each step")


def added_token(run):
    """A token means the same in each file that may list it."""
    model, rng = run.copy(), run.rng
    number, token = widen_vocabulary(model, 1), rng.choice(["<cat-toy>", "sks", "<*>", "<s1>"])
    (model / "tokenizer/added_tokens.json").write_text(json.dumps({token: number}))
    prompt = rng.choice([token, f"a {token}", f"a {token} in the rain"])
    found = run.latents(model, "-p", prompt)
    (model / "tokenizer/added_tokens.json").unlink()
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": False}
    edit(model / "tokenizer/tokenizer_config.json", added_tokens_decoder={str(number): {"content": token, **flags}})
    require(is_same(found, run.latents(model, "-p", prompt)), f"{token} is ignored")


def missing_token(run):
    """An encoder with more tokens than its tokenizer is worth a warning."""
    model = run.copy(run.rng.choice([mutate.EXAMPLE, *ONNX]))
    if parts(model, "*.onnx"):
        edit(model / "text_encoder/config.json", vocab_size=934 + run.rng.randrange(1, 9))
    else:
        widen_vocabulary(model, run.rng.randrange(1, 9))
    run.latents(model)
    require("warning" in run.told, "no warning")


def spare_key(run):
    """Keys that nobody knows change nothing; where they hold something, there is a warning."""
    model, rng = run.copy(), run.rng
    wanted, path = run.latents(model), model / rng.choice(CONFIGS)
    key, value = rng.choice(["new_option", "swirl", "use_magic"]), rng.choice([None, None, 3, "x", [1], False])
    edit(path, **{key: value})
    run.lines.append(f"{key}: {value} in {path.name}")
    require(is_same(wanted, run.latents(model)), "other latents")
    require(value is None or key in run.told, "no warning")


def old_key(run):
    """Keys of diffusers' first releases."""
    model, rng = run.copy(), run.rng
    is_epsilon = rng.random() < 0.5
    others = rng.choice([{}, {"timestep_values": None}, {"timestep_values": [1]}, {"denoise_final": True}])
    scheduler(model, "DDIM", "DDIM", predict_epsilon=is_epsilon, **others)
    found = run.latents(model)
    scheduler(model, "DDIM", "DDIM", prediction_type="epsilon" if is_epsilon else "sample")
    require(is_same(found, run.latents(model)), "predict_epsilon is ignored")


def node_order(run):
    """ONNX nodes mean the same in any order."""
    model = run.copy(run.rng.choice(ONNX))
    wanted = run.latents(model)
    for _ in range(run.rng.randrange(1, 4)):
        run.lines.append(shuffle_nodes(run.rng, model))
    require(is_same(wanted, run.latents(model)), "other latents")


def dtype_of_graph(run):
    """An export in f32 runs in 16 bits."""
    model = run.copy(run.rng.choice(ONNX))
    dtype = ["--dtype", run.rng.choice(["f16", "bf16"])]
    run.latents(model, *dtype)
    run.succeed(*run.compile(*dtype))


def operator(run):
    """A graph of one node computes what onnxruntime does."""
    tensors = load_tensors(mutate.GOLDEN / "onnx_operators.safetensors")
    case = run.rng.choice(sorted(name.removesuffix(".model") for name in tensors if name.endswith(".model")))
    run.lines.append(case)
    own = {name.removeprefix(f"{case}."): tensor for name, tensor in tensors.items() if name.startswith(f"{case}.")}
    (run.folder / "m.onnx").write_bytes(own["model"][2])
    mutate.save_tensors(run.folder / "in.st", {name[3:]: tensor for name, tensor in own.items() if name.startswith("in.")})
    run.succeed("run", "m.onnx", "--inputs", "in.st", "--outputs", "out.st")
    for name, found in load_tensors(run.folder / "out.st").items():
        wanted = own[f"out.{name}"]
        is_float = found[0] == wanted[0] == "F32"
        is_equal = is_same(floats_of(wanted), floats_of(found), 1e-4) if is_float else found == wanted
        require(is_equal and found[1] == wanted[1], f"another {name}")


# --- What has to be refused, and in which words --------------------------------------------------


def not_finite(run):
    """Weights that are NaN, infinite or too large for the type: an error, or a finite picture."""
    model, rng = run.copy(), run.rng
    component = rng.choice(list(WEIGHTS))
    path = model / WEIGHTS[component]
    names = sorted(name for name in load_tensors(path) if name.endswith("weight"))
    if component == "vae_decoder":  # The other half of the file is not read.
        names = [name for name in names if name.startswith(("decoder", "post_quant"))]
    factor, name = rng.choice(["nan", "inf", "1e5", "1e5", "1e6", "3e38"]), rng.choice(names)
    dtype = rng.choice([[], ["--dtype", "f16"]]) if factor[0] in "ni3" else ["--dtype", "f16"]
    map_tensor(path, name, lambda x: x * float(factor))
    run.lines.append(f"{name} of {component} times {factor}")
    if factor in ("nan", "inf"):
        run.fail(*run.sample(model), *dtype, words=[[component], ["NaN"], [name]])
        require(not (run.folder / "out.png").exists(), "a picture of NaN")
        return
    result = run.splamc(*run.sample(model), *dtype, "--latents-out", "x.st")
    if result.code:
        require(any(own in result.told for own in WEIGHTS), "an error without the network")
        require("--dtype" in result.told or "overflow" in result.told, "an error without what to do")
    else:
        run.latents(model, *dtype)


def pointer(run):
    """A pointer of git-lfs in place of any file."""
    model = run.copy(run.rng.choice([mutate.EXAMPLE, *ONNX]))
    graphs = [path for path in parts(model, "*.onnx*") if path.parent.name != "vae_encoder"]
    path = run.rng.choice(graphs or parts(model, "*"))
    path.write_text(POINTER)
    run.lines.append(f"a pointer in place of {path.parent.name}/{path.name}")
    run.fail(*run.rng.choice([run.sample(model), run.compile()]), words=[["git lfs pull"], [path.name]])


def cut_file(run):
    """Weights or graphs of which the end is missing."""
    model = run.copy(run.rng.choice([mutate.EXAMPLE, *ONNX]))
    files = [path for path in parts(model, "*.onnx*") if path.parent.name != "vae_encoder"]
    path = run.rng.choice(files or parts(model, "*.safetensors"))
    whole = path.stat().st_size
    os.truncate(path, run.rng.randrange(1, whole))
    run.lines.append(f"{path.parent.name}/{path.name} of {whole} bytes cut to {path.stat().st_size}")
    run.fail(*run.sample(model), words=[["incomplete"], [path.name], [str(path.stat().st_size)]])


def other_network(run):
    """Networks that take more than latents: their kind is named."""
    model = run.copy()
    channels, kind = run.rng.choice(list(CHANNELS.items()))
    edit(model / "unet/config.json", in_channels=channels)
    run.fail(*run.rng.choice([run.sample(model), run.compile()]), words=[[kind]])


def other_pipeline(run):
    """Pipelines of other classes are named, whatever their networks are."""
    model, name = run.copy(), run.rng.choice(OTHER_PIPELINES)
    networks = {"text_encoder": ["alt", "Roberta"], "unet": ["diffusers", "UNet3D"], "image_normalizer": ["x", "Y"]}
    others = dict(run.rng.sample(sorted(networks.items()), run.rng.randrange(2)))
    edit(model / "model_index.json", _class_name=name, **others)
    run.fail(*run.rng.choice([run.sample(model), run.compile()]), words=[[name]])


def missing_blob(run):
    """Links of a download cache that lead to nothing."""
    model = run.copy(run.rng.choice([mutate.EXAMPLE, ONNX[0]]))
    names = ["*.onnx", "*.safetensors", "vocab.json", "config.json", "scheduler_config.json"]
    own = [path for pattern in names for path in parts(model, pattern) if path.parent.name != "vae_encoder"]
    path = run.rng.choice([path for path in own if path.suffix != ".json" or not parts(model, "*.onnx")])
    path.unlink()
    path.symlink_to("../../blobs/0123abcd")
    run.lines.append(f"a link to nothing in place of {path.parent.name}/{path.name}")
    run.fail(*run.sample(model), words=[["blobs/0123abcd"], ["download"], [path.name]])


def unknown_scheduler(run):
    """A scheduler that nobody knows: an option replaces it, as the error says."""
    model, name = run.copy(), run.rng.choice(["ScoreSdeVe", "Magic", "FlowMatchEulerDiscrete"])
    scheduler(model, name, name)
    run.fail(*run.sample(model), words=[["--sampler"], [name]])
    run.latents(model, "--sampler", run.rng.choice(["euler", "dpm++2m", "ddim"]))


# --- What only looks wrong -----------------------------------------------------------------------


def options(run):
    """A random seed, and prompts that begin with a dash."""
    model = run.copy()
    words = run.rng.choice([["-s", "-1"], ["--seed", "-1"], ["-p", "-cat"], ["-p", "--dog"], ["-n", "-dog"]])
    told = run.succeed(*run.sample(model, *words)).told
    require(words[1] != "-1" or "seed" in told, "the seed is not printed")


def cache_entry(run):
    """The root of an entry in Hugging Face's cache."""
    entry = run.folder / "models--a--b"
    (entry / "snapshots").mkdir(parents=True)
    names = run.rng.choice([["0a"], ["0a", "1b"]])
    for name in names:
        run.copy(name=f"models--a--b/snapshots/{name}")
    if len(names) > 1 or run.rng.random() < 0.5:
        (entry / "refs").mkdir()
        (entry / "refs/main").write_text(names[-1])
    run.latents(entry)


def drivers(run):
    """What drivers print without a desktop is nobody's error."""
    run.succeed("devices", without=["XDG_RUNTIME_DIR", "NODEVICE_SELECT"])


def open_sizes(run):
    """The interface of a graph with open sizes, with their names."""
    name, op = run.rng.choice(["batch", "n", "rows"]), run.rng.choice(["Relu", "Sigmoid", "Neg"])
    values = [mutate.value_info(own, [name, 4]) for own in "xy"]
    (run.folder / "m.onnx").write_bytes(mutate.onnx([mutate.node(op, ["x"], ["y"])], values[:1], values[1:]))
    data = run.succeed("inspect", "m.onnx").data.decode()
    require(f"f32[{name}, 4]" in data, f"the interface lacks {name}")


def target_alone(run):
    """`grad` with a target and no inputs names the inputs."""
    run.copy()
    mutate.save_tensors(run.folder / "in.st", {"target": mutate.floats([1, 3, 32, 32])})
    words = ["grad", "model", "--component", "vae_decoder", "--inputs", "in.st", "--outputs", "o.st"]
    run.fail(*words, words=[['"latent_sample"'], ['"target"']])
