"""Runs diffusers' schedulers over options that a sampler table must honour, without a network.

Writes tests/golden/schedulers/options.json and options.safetensors: for each case the configuration,
the arguments, and what diffusers made of them; the outputs and the noise that every case is fed are
those of schedulers.safetensors beside them. Rerun with the versions in requirements-dev.txt:

    python tests/scripts/make_sampler_goldens.py
"""

import json
import math
import pathlib
import warnings

import diffusers
import torch
from safetensors.torch import load_file, save_file

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "schedulers"
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
LOW_SNR = {**ZERO_SNR, "timestep_spacing": "trailing"}

# name, class, steps, configuration beyond Stable Diffusion's betas, step arguments
CASES = [
    ("ddim.clip", "DDIMScheduler", 5, {"set_alpha_to_one": True, "eta": 0.5}),
    ("ddim.threshold", "DDIMScheduler", 5, {"thresholding": True, "sample_max_value": 1.5}),
    ("ddim.threshold.ratio", "DDIMScheduler", 3, {
        "thresholding": True, "sample_max_value": 3.0, "dynamic_thresholding_ratio": 0.9}),
    ("ddim.linear", "DDIMScheduler", 6, {"beta_schedule": "linear", "beta_start": 1e-4,
                                         "beta_end": 0.02, "clip_sample": False, "eta": 0.3}),
    ("ddim.sample.clip", "DDIMScheduler", 6, {"prediction_type": "sample", "eta": 1.0}),
    ("ddim.zero_snr", "DDIMScheduler", 6, {**LOW_SNR, "clip_sample": False, "eta": 0.2}),
    ("ddim.n7", "DDIMScheduler", 7, {"clip_sample": False, "steps_offset": 3}),
    ("ddim.short", "DDIMScheduler", 6, {"num_train_timesteps": 50, "clip_sample": False,
                                        "timestep_spacing": "linspace"}),
    ("ddim.trained", "DDIMScheduler", 5, {
        "num_train_timesteps": 20, "trained_betas": [0.01 + 0.005 * i for i in range(20)]}),
    ("ddpm.clip", "DDPMScheduler", 6, {}),
    ("ddpm.large", "DDPMScheduler", 6, {"variance_type": "fixed_large", "clip_sample": False}),
    ("ddpm.small_log", "DDPMScheduler", 6, {"variance_type": "fixed_small_log",
                                            "timestep_spacing": "linspace"}),
    ("ddpm.sigmoid", "DDPMScheduler", 6, {"beta_schedule": "sigmoid", "clip_sample": False}),
    ("ddpm.laplace", "DDPMScheduler", 6, {"beta_schedule": "laplace", "clip_sample": False}),
    ("ddpm.cosine.v", "DDPMScheduler", 6, {"beta_schedule": "squaredcos_cap_v2",
                                           "prediction_type": "v_prediction",
                                           "timestep_spacing": "trailing"}),
    ("ddpm.sample.threshold", "DDPMScheduler", 6, {
        "prediction_type": "sample", "thresholding": True, "sample_max_value": 2.0}),
    ("pndm.prk", "PNDMScheduler", 6, {"steps_offset": 1}),
    ("pndm.prk.n4.v", "PNDMScheduler", 4, {"prediction_type": "v_prediction"}),
    ("pndm.prk.linspace", "PNDMScheduler", 7, {"timestep_spacing": "linspace"}),
    ("pndm.one", "PNDMScheduler", 1, {"skip_prk_steps": True, "set_alpha_to_one": True}),
    ("pndm.two", "PNDMScheduler", 2, {"skip_prk_steps": True}),
    ("pndm.v.linspace", "PNDMScheduler", 7, {"skip_prk_steps": True,
                                             "prediction_type": "v_prediction",
                                             "timestep_spacing": "linspace"}),
    ("pndm.trailing", "PNDMScheduler", 9, {"skip_prk_steps": True, "set_alpha_to_one": True,
                                           "timestep_spacing": "trailing"}),
    ("euler.sample", "EulerDiscreteScheduler", 5, {"prediction_type": "sample"}),
    ("euler.exponential", "EulerDiscreteScheduler", 6, {"use_exponential_sigmas": True}),
    ("euler.beta", "EulerDiscreteScheduler", 6, {"use_beta_sigmas": True}),
    ("euler.beta.one", "EulerDiscreteScheduler", 1, {"use_beta_sigmas": True}),
    ("euler.log_linear", "EulerDiscreteScheduler", 5, {"interpolation_type": "log_linear"}),
    ("euler.log_linear.karras", "EulerDiscreteScheduler", 5, {
        "interpolation_type": "log_linear", "use_karras_sigmas": True}),
    ("euler.sigma_min", "EulerDiscreteScheduler", 5, {"final_sigmas_type": "sigma_min",
                                                      "timestep_spacing": "trailing"}),
    ("euler.continuous", "EulerDiscreteScheduler", 5, {
        "timestep_type": "continuous", "prediction_type": "v_prediction",
        "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0}),
    ("euler.continuous.log", "EulerDiscreteScheduler", 4, {
        "timestep_type": "continuous", "prediction_type": "v_prediction",
        "interpolation_type": "log_linear"}),
    ("euler.zero_snr", "EulerDiscreteScheduler", 5, LOW_SNR),
    ("euler.v.churn", "EulerDiscreteScheduler", 5, {
        "prediction_type": "v_prediction", "s_churn": 2.0, "s_tmin": 0.5, "s_tmax": 10.0}),
    ("euler.linear.karras", "EulerDiscreteScheduler", 6, {
        "beta_schedule": "linear", "use_karras_sigmas": True, "timestep_spacing": "trailing"}),
    ("euler_a.v", "EulerAncestralDiscreteScheduler", 5, {"prediction_type": "v_prediction"}),
    ("euler_a.zero_snr", "EulerAncestralDiscreteScheduler", 5, LOW_SNR),
    ("euler_a.linspace", "EulerAncestralDiscreteScheduler", 7, {"steps_offset": 1}),
    ("dpm.beta", "DPMSolverMultistepScheduler", 6, {"use_beta_sigmas": True}),
    ("dpm.cosine.karras", "DPMSolverMultistepScheduler", 7, {
        "beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True,
        "lambda_min_clipped": -5.1}),
    ("dpm.cosine.lu", "DPMSolverMultistepScheduler", 7, {
        "beta_schedule": "squaredcos_cap_v2", "use_lu_lambdas": True}),
    ("dpm.cosine.clipped", "DPMSolverMultistepScheduler", 7, {
        "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}),
    ("dpm.clipped.trailing", "DPMSolverMultistepScheduler", 7, {
        "lambda_min_clipped": -1.5, "timestep_spacing": "trailing"}),
    ("dpm.clipped.leading", "DPMSolverMultistepScheduler", 7, {
        "lambda_min_clipped": -1.5, "timestep_spacing": "leading", "steps_offset": 1}),
    ("dpm.exponential.linear", "DPMSolverMultistepScheduler", 7, {
        "beta_schedule": "linear", "use_exponential_sigmas": True}),
    ("dpm.exponential.ends", "DPMSolverMultistepScheduler", 7, {
        "use_exponential_sigmas": True, "solver_order": 3}),
    ("dpm.sde.heun", "DPMSolverMultistepScheduler", 7, {
        "algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    ("dpm.sde.eps", "DPMSolverMultistepScheduler", 7, {
        "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("dpm.sde.eps.heun", "DPMSolverMultistepScheduler", 7, {
        "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min",
        "solver_type": "heun", "prediction_type": "v_prediction"}),
    ("dpm.eps.sample.threshold", "DPMSolverMultistepScheduler", 6, {
        "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "thresholding": True,
        "prediction_type": "sample", "sample_max_value": 1.3}),
    ("dpm.eps.heun.o3", "DPMSolverMultistepScheduler", 16, {
        "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3}),
    ("dpm.sample.heun", "DPMSolverMultistepScheduler", 16, {
        "prediction_type": "sample", "solver_type": "heun", "euler_at_final": True}),
    ("dpm.zero_snr", "DPMSolverMultistepScheduler", 6, LOW_SNR),
    ("dpm.o3.loose", "DPMSolverMultistepScheduler", 9, {
        "solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"}),
    ("unipc.exponential", "UniPCMultistepScheduler", 6, {"use_exponential_sigmas": True}),
    ("unipc.beta", "UniPCMultistepScheduler", 6, {"use_beta_sigmas": True}),
    ("unipc.sample", "UniPCMultistepScheduler", 6, {"prediction_type": "sample"}),
    ("unipc.threshold", "UniPCMultistepScheduler", 6, {"thresholding": True,
                                                       "sample_max_value": 1.5}),
    ("unipc.eps.sample.o3", "UniPCMultistepScheduler", 6, {
        "prediction_type": "sample", "predict_x0": False, "solver_order": 3,
        "final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}),
    ("unipc.o3.loose", "UniPCMultistepScheduler", 9, {
        "solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min",
        "solver_type": "bh1"}),
    ("unipc.zero_snr", "UniPCMultistepScheduler", 6, LOW_SNR),
    ("unipc.corrector.some", "UniPCMultistepScheduler", 8, {"disable_corrector": [2, 5],
                                                            "solver_order": 3}),
    ("lcm.sample.clip", "LCMScheduler", 4, {"prediction_type": "sample", "clip_sample": True}),
    ("lcm.threshold", "LCMScheduler", 3, {"thresholding": True, "sample_max_value": 2.0,
                                          "timestep_scaling": 0.01}),
    ("lcm.zero_snr", "LCMScheduler", 4, ZERO_SNR),
    ("lcm.orig10", "LCMScheduler", 4, {"original_inference_steps": 10}),
    ("tcd.v.eta1", "TCDScheduler", 4, {"prediction_type": "v_prediction", "eta": 1.0}),
    ("tcd.sample.eta0", "TCDScheduler", 4, {"prediction_type": "sample", "eta": 0.0}),
    ("tcd.orig20", "TCDScheduler", 6, {"original_inference_steps": 20, "eta": 0.7}),
    ("heun.clip", "HeunDiscreteScheduler", 5, {"clip_sample": True,
                                               "timestep_spacing": "trailing"}),
    ("heun.sample", "HeunDiscreteScheduler", 4, {"prediction_type": "sample"}),
    ("heun.one", "HeunDiscreteScheduler", 1, {"beta_schedule": "linear"}),
    ("dpm2.trailing", "KDPM2DiscreteScheduler", 5, {"timestep_spacing": "trailing"}),
    ("dpm2.one", "KDPM2DiscreteScheduler", 1, {"beta_schedule": "linear"}),
    ("dpm2_a.trailing", "KDPM2AncestralDiscreteScheduler", 5, {
        "timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("dpm2_a.one", "KDPM2AncestralDiscreteScheduler", 1, {}),
    ("lms.n16", "LMSDiscreteScheduler", 16, {"timestep_spacing": "trailing"}),
    ("lms.sample", "LMSDiscreteScheduler", 6, {"prediction_type": "sample"}),
    ("deis.o1", "DEISMultistepScheduler", 5, {"solver_order": 1}),
    ("deis.o3.n16", "DEISMultistepScheduler", 16, {"solver_order": 3,
                                                   "timestep_spacing": "trailing"}),
    ("deis.o3.loose", "DEISMultistepScheduler", 7, {"solver_order": 3,
                                                    "lower_order_final": False}),
    ("deis.threshold", "DEISMultistepScheduler", 6, {"thresholding": True,
                                                     "sample_max_value": 1.5}),
    ("deis.sample", "DEISMultistepScheduler", 5, {"prediction_type": "sample",
                                                  "timestep_spacing": "leading",
                                                  "steps_offset": 1}),
    ("deis.exponential", "DEISMultistepScheduler", 6, {"use_exponential_sigmas": True}),
    ("deis.beta", "DEISMultistepScheduler", 6, {"use_beta_sigmas": True}),
    ("deis.cosine.karras", "DEISMultistepScheduler", 6, {
        "beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}),
    ("dpm_single.one", "DPMSolverSinglestepScheduler", 1, {}),
    ("dpm_single.o1", "DPMSolverSinglestepScheduler", 4, {"solver_order": 1}),
    ("dpm_single.o3.n9", "DPMSolverSinglestepScheduler", 9, {"solver_order": 3}),
    ("dpm_single.o3.n8", "DPMSolverSinglestepScheduler", 8, {"solver_order": 3}),
    ("dpm_single.whole", "DPMSolverSinglestepScheduler", 6, {
        "final_sigmas_type": "sigma_min", "solver_order": 3}),
    ("dpm_single.uneven", "DPMSolverSinglestepScheduler", 7, {
        "final_sigmas_type": "sigma_min", "solver_order": 3}),
    ("dpm_single.lower", "DPMSolverSinglestepScheduler", 6, {
        "final_sigmas_type": "sigma_min", "solver_order": 3, "lower_order_final": True}),
    ("dpm_single.eps.heun", "DPMSolverSinglestepScheduler", 9, {
        "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min",
        "solver_order": 3, "solver_type": "heun"}),
    ("dpm_single.sde.heun.o3", "DPMSolverSinglestepScheduler", 7, {
        "algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "heun"}),
    ("dpm_single.sde.o3", "DPMSolverSinglestepScheduler", 7, {
        "algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    ("dpm_single.threshold", "DPMSolverSinglestepScheduler", 5, {
        "thresholding": True, "sample_max_value": 1.5, "prediction_type": "sample"}),
    ("dpm_single.exponential", "DPMSolverSinglestepScheduler", 6, {
        "use_exponential_sigmas": True}),
    ("dpm_single.beta", "DPMSolverSinglestepScheduler", 6, {"use_beta_sigmas": True}),
    ("dpm_single.cosine", "DPMSolverSinglestepScheduler", 6, {
        "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}),
    ("dpm_single.cosine.karras", "DPMSolverSinglestepScheduler", 6, {
        "beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}),
    ("ipndm.one", "IPNDMScheduler", 1, {}),
    ("ipndm.n12", "IPNDMScheduler", 12, {}),
    ("edm.sigma_min", "EDMEulerScheduler", 4, {"final_sigmas_type": "sigma_min"}),
    ("edm.exponential.one", "EDMEulerScheduler", 1, {"sigma_schedule": "exponential"}),
    ("edm.range", "EDMEulerScheduler", 5, {
        "sigma_data": 1.0, "rho": 5.0, "sigma_min": 0.01, "sigma_max": 300.0}),
]
# Classes that have a noise schedule of their own.
OWN_SCHEDULES = ("EDMEulerScheduler", "IPNDMScheduler")
# Parts of the names of classes whose networks see a scaled state.
SCALED = ("Euler", "Heun", "KDPM2", "LMS")
STEP_ARGUMENTS = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise")


def run(name, scheduler_name, steps, options, given):
    """One case: its record, and its tensors by name."""
    arguments = {key: value for key, value in options.items() if key in STEP_ARGUMENTS}
    betas = {} if scheduler_name in OWN_SCHEDULES else SD
    config = {**betas, **{key: value for key, value in options.items() if key not in arguments}}
    scheduler = getattr(diffusers, scheduler_name)(**config)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise a run whose first timesteps coincide starts at the second of them.
        scheduler.set_begin_index(0)
    sigmas = getattr(scheduler, "sigmas", None)
    noise = given["step_noise"]
    drawn = []

    def next_noise(shape, **_):
        drawn.append(len(drawn))
        return noise[drawn[-1]].reshape(shape)

    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = next_noise
    record = {
        "name": name,
        "scheduler": scheduler_name,
        "config": config,
        "steps": steps,
        "set_timesteps": {},
        "step_kwargs": arguments,
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "timesteps": [float(timestep) for timestep in scheduler.timesteps],
        "sigmas": None if sigmas is None else [float(sigma) for sigma in sigmas],
        "noise_index": [],
    }
    sample = given["init_noise"] * scheduler.init_noise_sigma
    states, estimates, inputs = [sample], [], []
    for call, timestep in enumerate(scheduler.timesteps):
        inputs.append(scheduler.scale_model_input(sample, timestep))
        before = len(drawn)
        result = scheduler.step(given["model_outputs"][call], timestep, sample, **arguments)
        sample = result.prev_sample
        record["noise_index"].append(before if len(drawn) > before else -1)
        states.append(sample)
        estimate = getattr(result, "pred_original_sample", getattr(result, "denoised", None))
        estimates.append(estimate)
    record["calls"] = len(inputs)
    tensors = {f"{name}.trajectory": torch.stack(states)}
    if any(part in scheduler_name for part in SCALED):
        tensors[f"{name}.scaled"] = torch.stack(inputs)
    if estimates[0] is not None and "timestep_scaling" not in config:
        tensors[f"{name}.x0"] = torch.stack(estimates)
    assert all(math.isfinite(state.abs().max()) for state in states), name
    return record, tensors


def main():
    warnings.simplefilter("ignore")
    given = load_file(FOLDER / "schedulers.safetensors")
    records, tensors = [], {}
    for case in CASES:
        record, made = run(*case, given)
        records.append(record)
        tensors.update(made)
    for key in ("model_outputs", "step_noise", "init_noise"):
        tensors[key] = given[key]
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    with open(FOLDER / "options.json", "w", encoding="utf-8") as file:
        json.dump({**versions, "cases": records}, file, indent=0, allow_nan=False)
        file.write("\n")
    save_file({key: value.contiguous() for key, value in tensors.items()},
              FOLDER / "options.safetensors")
    print(f"{len(records)} cases")


if __name__ == "__main__":
    main()
