//! Whole runs of diffusers' pipelines, replayed on the network outputs that were recorded: which
//! sampler a model's file and a name give, guidance with its rescale, and several images.

use compiler::program::sampler::Guidance;
use graphs::samplers::{SamplerConfig, table};
use runtime::sampler_step::{SamplerState, guide};
use serde_json::Value;

use super::{deviation, tensors};
use crate::support::golden;

/// Of the largest magnitude. Most runs stay below 2e-5; the one that starts at σ = 4096 divides by
/// it in single precision in diffusers.
const TOLERANCE: f64 = 1e-4;

/// Replays `<model>/runs/<run>` under the sampler called `name`; without one, the model's own.
#[track_caller]
fn check(model: &str, run: &str, name: Option<&str>) {
    let read = |path: &str| std::fs::read(golden(path)).expect("the golden file exists");
    let file = read(&format!("{model}/model/scheduler/scheduler_config.json"));
    let file = String::from_utf8(file).expect("the file is text");
    let mut config = SamplerConfig::from_diffusers(&file).expect("the file is JSON");
    if let Some(name) = name {
        config = config.with_sampler(name).expect("the sampler exists");
    }
    let meta = String::from_utf8(read(&format!("{model}/runs/{run}/meta.json"))).expect("text");
    let meta: Value =
        serde_json::from_str(&meta.replace("-Infinity", "null")).expect("the description is JSON");
    let number = |key: &str| meta[key].as_f64().unwrap_or(0.0);
    let images = number("images") as usize;
    let tensors = tensors(&read(&format!("{model}/runs/{run}/tensors.safetensors")));
    let (noise, latents) = (&tensors["init_latents"], &tensors["latents"]);

    let table = table(&config, number("steps") as usize).expect("the table exists");
    let mut state = SamplerState::new(&table, noise, images).expect("the noise is whole images");
    let outputs = tensors["unet_out"].chunks(tensors["unet_out"].len() / table.steps.len());
    assert_eq!(
        latents.len(),
        noise.len() * table.steps.len(),
        "{run}: calls"
    );
    for ((call, step), output) in table.steps.iter().enumerate().zip(outputs) {
        if call == 0 {
            let seen = state.network_input(step).repeat(output.len() / noise.len());
            assert!(
                deviation(&seen, &tensors["unet_in_first"]) <= 1e-6,
                "{run}: first input"
            );
        }
        let output = if output.len() == noise.len() {
            output.to_vec()
        } else {
            let guidance = Guidance {
                scale: number("guidance_scale"),
                rescale: number("guidance_rescale"),
            };
            let (unconditional, conditional) = output.split_at(noise.len());
            guide(guidance, images, unconditional, conditional).expect("the halves are equal")
        };
        let draw = step
            .draw
            .map(|draw| &tensors["step_noise"][draw * noise.len()..][..noise.len()]);
        state.advance(step, &output, draw).expect("lengths agree");
        let off = deviation(&state.x, &latents[call * noise.len()..][..noise.len()]);
        assert!(
            off <= TOLERANCE,
            "{run}: state after call {call} is off by {off:.2e}"
        );
    }
}

#[test]
fn recorded_runs_of_pipelines_are_replayed() {
    check("pipeline", "ddim20_cfg7.5", None);
    check("pipeline", "dpmpp2m_8_cfg7.5", Some("dpm++2m"));
    check("pipeline", "euler6_nocfg_24x16", Some("euler"));
    check("pipeline", "lcm4_cfg1.5", Some("lcm"));
    check("pipeline", "lcm4_w8_timestepcond", Some("splam"));
    check("pipeline", "pndm10_cfg5_b2", Some("pndm"));
    check("sd21", "ddim3_nocfg", None);
    check("sd21", "ddim5_cfg7.5_rescale0.7", None);
    check("sd21", "euler4_cfg6_rescale0.7_30x22_b2", Some("euler"));
}
