#!/usr/bin/env python3
"""Make the golden training steps: unet_a, and grads/ with one step of LCM and four of SPLAD.

Takes: the inputs stored in tests/golden (latents, noise, texts, draws), configurations, and weights
that are stored or described.
Gives: OUT/unet_a/io.safetensors and OUT/grads/: every value on the way, losses, gradients and
movements, all of it in f64 and stored as f32, gradients and movements thinned. With --draw it gives
the networks new random weights first and describes them in OUT.
Never: changes an input.

The formulas are those of arXiv 2310.04378 (LCM) and of SPLAD with multiple estimation. diffusers
computes the sinusoid of timesteps in f32. Needs: requirements-dev.txt.
Example: python3 tests/scripts/make_grad_goldens.py /tmp/goldens
"""

import argparse
import copy
import json
import math
import pathlib
import sys

import diffusers
import numpy as np
import random_weights
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.numpy import load_file, save_file
from thin_gradients import thinned

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
STRIDE, ESTIMATES, GUIDANCE, HUBER_C = 20, 5, 3.0, 0.001
LR, EMA_DECAY, KEPT, EVERY = 1e-3, 0.95, 128, 4
SPLAD_VARIANTS = {
    "default": ("zero_at_one", "linear", "huber"),
    "l2": ("zero_at_one", "linear", "l2"),
    "official": ("official", "linear", "huber"),
    "released": ("official", "variance", "huber"),
}
# Networks: configuration, weights, and the seed of new ones.
NETWORKS = {
    "unet_a": ("unet_a/unet/config.json", "unet_a/unet/diffusion_pytorch_model", 81000),
    "lcm_student": ("grads/lcm_distill.student.config.json", "grads/lcm_distill.student", 82000),
    "teacher": ("grads/splad_distill.teacher.config.json", "grads/splad_distill.teacher", 83000),
    "student": ("grads/splad_distill.student.config.json", "grads/splad_distill.student", 83001),
    "ema": ("grads/splad_distill.student.config.json", "grads/splad_distill.ema", 83002),
}
BARS = DDPMScheduler(**SCHEDULE).alphas_cumprod.double()

Tensors = dict[str, torch.Tensor]


def alpha(timesteps: torch.Tensor) -> torch.Tensor:
    """Signal at timesteps, as factors of images."""
    return BARS[timesteps].sqrt().view(-1, 1, 1, 1)


def sigma(timesteps: torch.Tensor) -> torch.Tensor:
    """Noise at timesteps, as factors of images."""
    return (1 - BARS[timesteps]).sqrt().view(-1, 1, 1, 1)


def sinusoid(numbers: torch.Tensor, width: int) -> torch.Tensor:
    """The embedding of guidance scales, of 1000 times the number: sines, then cosines."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half).double() / (half - 1))
    phases = 1000.0 * numbers.double()[:, None] * frequencies[None]
    return torch.cat([phases.sin(), phases.cos()], dim=1)


def consistent(state, output, noise, timesteps):
    """The consistency function: sigma_data 0.5, timesteps scaled by 10."""
    scaled = timesteps.double().view(-1, 1, 1, 1) * 10.0
    skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
    return skip * state + out * (state - noise * output) / alpha(timesteps)


def ddim(state, output, start, end):
    """One step of the solver; a sample that has arrived stays."""
    x0 = (state - sigma(start) * output) / alpha(start)
    moved = alpha(end) * x0 + sigma(end) * output
    return torch.where((start == end).view(-1, 1, 1, 1), state, moved)


def distance(found, wanted, kind: str):
    """The loss."""
    square = (found - wanted) ** 2
    if kind == "l2":
        return square.mean()
    return ((square + HUBER_C**2).sqrt() - HUBER_C).mean()


def said(network, state, timesteps, text, condition=None):
    """What a network returns."""
    return network(state, timesteps, text, timestep_cond=condition).sample


def guided(teacher, state, timesteps, io: Tensors, scale):
    """What a teacher returns with guidance in the standard form."""
    without, with_text = (said(teacher, state, timesteps, io[key]) for key in ("uncond", "cond"))
    return without + scale * (with_text - without)


def norm(network) -> float:
    """The norm of a network's gradient."""
    return float(sum((p.grad**2).sum() for p in network.parameters()).sqrt())


def gradients(network) -> Tensors:
    """The gradient of every parameter."""
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def movements(network, ema, before: tuple[Tensors, Tensors]) -> Tensors:
    """How far every fourth parameter and its average moved."""
    names = sorted(before[0])[::EVERY]
    found = {}
    for prefix, moved, old in zip(("delta.", "ema_delta."), (network, ema), before, strict=True):
        now = dict(moved.named_parameters())
        found |= {prefix + name: (now[name] - old[name]).detach() for name in names}
    return found


def parameters(network) -> Tensors:
    """A copy of all parameters."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def update(network, ema, optimizer) -> None:
    """Clipping, AdamW, EMA."""
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        for average, parameter in zip(ema.parameters(), network.parameters(), strict=True):
            average.lerp_(parameter, 1 - EMA_DECAY)


def adamw(network, weight_decay: float):
    """The optimiser of all steps."""
    return torch.optim.AdamW(
        network.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay
    )


class Goldens:
    """Inputs and networks, and what is written."""

    def __init__(self, out: pathlib.Path, draw: bool):
        self.out, self.draw = out, draw
        (out / "grads").mkdir(parents=True, exist_ok=True)
        (out / "unet_a/unet").mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Tensors:
        """Stored tensors: floats in f64."""
        found = load_file(GOLDEN / f"{name}.safetensors")
        tensors = {key: torch.from_numpy(value) for key, value in found.items()}
        return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}

    def write(self, tensors: Tensors, name: str, thin: bool = False) -> None:
        """Writes tensors as f32 and i64, gradients and movements in part."""
        arrays = {}
        for key, value in tensors.items():
            array = value.detach().numpy()
            array = array.astype(np.float32) if value.is_floating_point() else array
            arrays[key] = thinned(array, KEPT) if thin else array.copy(order="C")
        save_file(arrays, self.out / f"{name}.safetensors")

    def network(self, key: str):
        """A network in f64."""
        config, weights, seed = NETWORKS[key]
        network = UNet2DConditionModel.from_config(json.loads((GOLDEN / config).read_text()))
        shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        described = GOLDEN / f"{weights}.safetensors{random_weights.SUFFIX}"
        if self.draw:
            drawn = {n: random_weights.parameter(seed, n, shape) for n, shape in shapes.items()}
            path = self.out / f"{weights}.safetensors"
            save_file(drawn, path)
            random_weights.describe_file(path, seed)
        elif described.is_file():
            drawn = random_weights.made(described)
        else:
            drawn = load_file(GOLDEN / f"{weights}.safetensors")
        network.load_state_dict({name: torch.from_numpy(drawn[name]) for name in shapes})
        return network.double().eval()

    def denoising(self) -> dict:
        """The steps of unet_a."""
        io = self.read("unet_a/io")
        network = self.network("unet_a")
        ema, before = copy.deepcopy(network), parameters(network)
        text = io["encoder_hidden_states"].requires_grad_()

        def step(noise, timesteps):
            noisy = (alpha(timesteps) * io["x0"] + sigma(timesteps) * noise).requires_grad_()
            predicted = said(network, noisy, timesteps, text)
            loss = distance(predicted, noise, "l2")
            network.zero_grad()
            loss.backward()
            return noisy, predicted, loss

        noisy, predicted, loss = step(io["noise"], io["timesteps"])
        io |= {"noisy": noisy, "pred": predicted, "loss": loss}
        io |= {"grad_in.sample": noisy.grad, "grad_in.encoder_hidden_states": text.grad.clone()}
        self.write(gradients(network), "grads/unet_a.grads", thin=True)
        facts = {"prediction": "epsilon", "loss": loss.item(), "grad_norm": norm(network)}
        draws = self.read("grads/unet_a.train_io")
        optimizer, log = adamw(network, 0.01), []
        for number in range(3):
            _, _, loss = step(draws[f"step{number}.noise"], draws[f"step{number}.timesteps"])
            log.append({"loss": loss.item(), "grad_norm_before_clip": norm(network)})
            update(network, ema, optimizer)
        moved = movements(network, ema, (before, before))
        self.write(moved, "grads/unet_a.train_final", thin=True)
        self.write(draws, "grads/unet_a.train_io")
        self.write(io, "unet_a/io")
        return facts | {"train": {"weight_decay": 0.01, "log": log}}

    def lcm(self) -> dict:
        """One step of LCM; the teacher's weights are the student's but for the condition's."""
        io = self.read("grads/lcm_distill.io")
        student = self.network("lcm_student")
        config = json.loads((GOLDEN / "grads/lcm_distill.teacher.config.json").read_text())
        teacher = UNet2DConditionModel.from_config(config).double().eval()
        own = student.state_dict()
        teacher.load_state_dict({name: own[name] for name in teacher.state_dict()})
        start = (io["index"] + 1) * STRIDE - 1
        end = (start - STRIDE).clamp(min=0)
        noisy = alpha(start) * io["x0"] + sigma(start) * io["noise"]
        embedding = sinusoid(io["w"], student.config.time_cond_proj_dim)
        scale = (io["w"] + 1).view(-1, 1, 1, 1)
        with torch.no_grad():
            x_prev = ddim(noisy, guided(teacher, noisy, start, io, scale), start, end)
            target = said(student, x_prev, end, io["cond"], embedding)
            target = consistent(x_prev, target, sigma(end), end)
        out = said(student, noisy, start, io["cond"], embedding)
        predicted = consistent(noisy, out, sigma(start), start)
        loss = distance(predicted, target, "huber")
        loss.backward()
        io |= {"noisy": noisy, "w_embedding": embedding, "x_prev": x_prev, "student_out": out}
        io |= {"model_pred": predicted, "target": target, "loss": loss}
        io |= {"start_timesteps": start, "prev_timesteps": end}
        self.write(io, "grads/lcm_distill.io")
        self.write(gradients(student), "grads/lcm_distill.grads", thin=True)
        return {"prediction": "epsilon", "loss": loss.item(), "grad_norm": norm(student)}

    def splad(self) -> dict:
        """One step of SPLAD in four variants."""
        io = self.read("grads/splad_distill.io")
        teacher, student, ema = (self.network(key) for key in ("teacher", "student", "ema"))
        width = student.config.time_cond_proj_dim
        start = io["grid_index"] * STRIDE - 1
        ways = [(start - i * STRIDE).clamp(min=0) for i in range(ESTIMATES + 1)]
        end, gamma = ways[-1], io["gamma"].view(-1, 1, 1, 1)
        path = [alpha(start) * io["latents"] + sigma(start) * io["noise"]]
        with torch.no_grad():
            for at, to in zip(ways, ways[1:], strict=False):
                output = guided(teacher, path[-1], at, io, GUIDANCE)
                path.append(ddim(path[-1], output, at, to))
        z_t, z_s = path[0], path[-1]
        ratio = alpha(start) / alpha(end)
        z_gamma = (1 - gamma) * ratio * z_s + gamma * z_t
        io |= {"teacher_path": torch.stack(path), "z_t": z_t, "z_s": z_s, "z_gamma": z_gamma}
        facts = {}
        for variant, (embed, noise_form, kind) in SPLAD_VARIANTS.items():
            one = sinusoid(torch.zeros_like(io["gamma"]), width)
            embedding = sinusoid(10 - 10 * io["gamma"], width)
            if embed == "zero_at_one":
                embedding, at_one = embedding - one, one - one
            else:
                at_one = one
            line = (1 - gamma) * ratio * sigma(end) + gamma * sigma(start)
            arc = ((ratio * sigma(end)) ** 2 + gamma**2 * (1 - ratio**2)).sqrt()
            noise = line if noise_form == "linear" else arc
            with torch.no_grad():
                target_eps = said(ema, z_s, end, io["cond"], at_one)
                target = consistent(z_s, target_eps, sigma(end), end)
            student.zero_grad()
            student_eps = said(student, z_gamma, start, io["cond"], embedding)
            predicted = consistent(z_gamma, student_eps, noise, start)
            loss = distance(predicted, target, kind)
            loss.backward()
            values = {
                "gamma_embedding": embedding,
                "target_embedding": at_one,
                "sigma_gamma": noise.view(-1),
                "student_eps": student_eps,
                "model_pred": predicted,
                "target_eps": target_eps,
                "target": target,
                "loss": loss,
            }
            io |= {f"{variant}/{name}": value for name, value in values.items()}
            suffix = "" if variant == "default" else f"_{variant}"
            self.write(gradients(student), f"grads/splad_distill.grads{suffix}", thin=True)
            facts[variant] = {"loss": loss.item(), "grad_norm": norm(student)}
        # At gamma 1 the condition is a bias of the first layer of the time embedding.
        embedding = student.time_embedding
        folded = embedding.cond_proj.weight @ sinusoid(torch.zeros(1), width)[0]
        io["official/folded_bias"] = embedding.linear_1.bias + embedding.linear_1.weight @ folded
        self.write(io, "grads/splad_distill.io")
        student.zero_grad()
        before = parameters(student), parameters(ema)
        condition = io["default/gamma_embedding"]
        predicted = consistent(
            z_gamma,
            said(student, z_gamma, start, io["cond"], condition),
            io["default/sigma_gamma"].view(-1, 1, 1, 1),
            start,
        )
        distance(predicted, io["default/target"], "huber").backward()
        moved_by = {"grad_norm_before_clip": norm(student)}
        update(student, ema, adamw(student, 0.0))
        self.write(movements(student, ema, before), "grads/splad_distill.step", thin=True)
        return {"prediction": "epsilon", "variants": facts, "train": moved_by}


def main() -> int:
    """Makes all steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--draw", action="store_true", help="new random weights")
    options = parser.parse_args()
    goldens = Goldens(options.out, options.draw)
    facts = {
        "torch": str(torch.__version__),
        "diffusers": str(diffusers.__version__),
        "note": "all math in f64, values stored as f32",
        "cases": {"unet_a": goldens.denoising()},
        "lcm_distill": goldens.lcm(),
        "splad_distill": goldens.splad(),
    }
    (options.out / "grads/grads.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
