//! What a sampler reads from a file, takes over from another sampler, and refuses.

use graphs::samplers::{SamplerConfig, names, table};
use serde_json::{Value, json};

use super::with_options;

/// What a pipeline of Stable Diffusion 1.5 ships, as far as samplers read it.
const MODEL: &str = r#"{
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false,
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "set_alpha_to_one": false,
    "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": null
}"#;

#[test]
fn a_sampler_takes_over_the_schedule_of_a_model() {
    #[track_caller]
    fn check(name: &str, steps: usize, wanted: &[f64]) {
        let model = SamplerConfig::from_diffusers(MODEL).expect("the model's file is JSON");
        let config = model.with_sampler(name).expect("the sampler exists");
        assert_eq!(config.sampler_name(), Ok(name));
        let table = table(&config, steps).expect("the table exists");
        let found: Vec<f64> = table.steps.iter().map(|step| step.timestep).collect();
        assert_eq!(found, wanted, "{name}");
    }
    check("ddim", 4, &[751.0, 501.0, 251.0, 1.0]);
    check("ddpm", 4, &[751.0, 501.0, 251.0, 1.0]);
    check(
        "dpm",
        8,
        &[889.0, 778.0, 667.0, 556.0, 445.0, 334.0, 223.0, 112.0],
    );
    check(
        "dpm++2m",
        8,
        &[889.0, 778.0, 667.0, 556.0, 445.0, 334.0, 223.0, 112.0],
    );
    check("dpm++2m_sde", 4, &[801.0, 601.0, 401.0, 201.0]);
    check("euler", 6, &[831.0, 665.0, 499.0, 333.0, 167.0, 1.0]);
    check("euler_a", 4, &[751.0, 501.0, 251.0, 1.0]);
    check("lcm", 4, &[999.0, 759.0, 499.0, 259.0]);
    check("perflow", 5, &[1000.0, 875.0, 750.0, 500.0, 250.0]);
    check("pndm", 4, &[751.0, 501.0, 501.0, 251.0, 1.0]);
    check("splam", 4, &[999.0, 759.0, 499.0, 259.0]);
    check("tcd", 4, &[999.0, 759.0, 499.0, 259.0]);
    check("unipc", 4, &[801.0, 601.0, 401.0, 201.0]);
    assert_eq!(names().count(), 13);
}

#[test]
fn an_option_replaces_the_models_own() {
    let model = SamplerConfig::from_diffusers(MODEL).expect("the model's file is JSON");
    let euler = model.with_sampler("euler").expect("the sampler exists");
    let trailing = euler
        .with_option("timestep_spacing", json!("trailing"))
        .expect("it is known");
    let first = |config| table(config, 4).expect("the table exists").steps[0].timestep;
    assert_eq!((first(&euler), first(&trailing)), (751.0, 999.0));
    let karras = euler
        .with_option("use_karras_sigmas", json!(true))
        .expect("it is known");
    assert_ne!(table(&karras, 4), table(&euler, 4));
}

#[test]
fn a_file_may_name_a_class_with_its_module_and_hold_infinities() {
    let file = r#"{"_class_name": ["scheduler_perflow", "PeRFlowScheduler"], "t_clean": 0}"#;
    let config = SamplerConfig::from_diffusers(file).expect("the file is JSON");
    assert_eq!(config.sampler_name(), Ok("perflow"));
    let file = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    let config = SamplerConfig::from_diffusers(file).expect("the file is nearly JSON");
    assert_eq!(table(&config, 4).map(|table| table.steps.len()), Ok(4));
}

#[test]
fn options_that_diffusers_filled_in_are_not_taken_over() {
    let file = MODEL.replace('{', r#"{"_use_default_values": ["timestep_spacing"],"#);
    let model = SamplerConfig::from_diffusers(&file).expect("the model's file is JSON");
    let euler = model.with_sampler("euler").expect("the sampler exists");
    // Euler's own default is linspace.
    assert_eq!(
        table(&euler, 4).expect("the table exists").steps[0].timestep,
        999.0
    );
}

#[test]
fn trailing_spacing_has_as_many_steps_as_asked() {
    let trailing = with_options("DDIMScheduler", json!({"timestep_spacing": "trailing"}));
    // numpy lays out 62 points for 61 steps.
    let table = table(&trailing, 61).expect("the table exists");
    assert_eq!(table.steps.len(), 61);
    assert_eq!(table.steps[60].timestep, 15.0);
}

#[test]
fn every_option_is_honoured_or_refused_by_name() {
    #[track_caller]
    fn check(class: &str, options: Value, steps: usize, wanted: &str) {
        let outcome = table(&with_options(class, options), steps).map(|table| table.steps.len());
        assert_eq!(
            outcome.expect_err("the case is refused").to_string(),
            wanted
        );
    }
    let (ddim, euler, euler_a) = (
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
    );
    let (dpm, unipc) = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler");
    let (lcm, pndm, perflow) = ("LCMScheduler", "PNDMScheduler", "PeRFlowScheduler");
    #[rustfmt::skip]
    let cases = [
        (ddim, json!({}), 0, "0 steps were asked of sampler ddim, wanted 1 to 1000"),
        (ddim, json!({}), 1001, "1001 steps were asked of sampler ddim, wanted 1 to 1000"),
        (ddim, json!({"new": 1}), 4, "sampler ddim has no option \"new\""),
        (ddim, json!({"steps_offset": 600}), 2,
         "step 0 of sampler ddim falls on timestep 1100, wanted 0 to 999"),
        (ddim, json!({"steps_offset": 0.5}), 2,
         "option steps_offset of sampler ddim is 0.5, wanted a whole number"),
        (ddim, json!({"eta": 1.5}), 2,
         "option eta of sampler ddim is 1.5, wanted a number from 0 to 1"),
        (ddim, json!({"clip_sample": "yes"}), 2,
         "option clip_sample of sampler ddim is \"yes\", wanted true or false"),
        (ddim, json!({"beta_schedule": "sigmoid"}), 2,
         "option beta_schedule of sampler ddim is \"sigmoid\", \
          wanted one of linear, scaled_linear, squaredcos_cap_v2"),
        (ddim, json!({"num_train_timesteps": 1e8}), 2,
         "option num_train_timesteps of sampler ddim is 100000000.0, \
          wanted a whole number from 1 to 100000"),
        (ddim, json!({"trained_betas": [0.1, 0.2]}), 2,
         "trained_betas holds 2 numbers, wanted num_train_timesteps = 1000"),
        (ddim, json!({"beta_end": -1}), 2,
         "alpha_bar at timestep 0 is NaN, wanted a number from 0 to 1"),
        (ddim, json!({"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}), 2,
         "step 0 of sampler ddim at timestep 999 has no finite coefficients"),
        (ddim, json!({"prediction_type": "ddim_eps"}), 2,
         "option prediction_type of sampler ddim is \"ddim_eps\", \
          wanted one of epsilon, v_prediction, sample"),
        (pndm, json!({"prediction_type": "sample"}), 4,
         "option prediction_type of sampler pndm is \"sample\", wanted epsilon or v_prediction"),
        (pndm, json!({}), 3, "3 steps were asked of sampler pndm, wanted 4 to 1000"),
        (euler_a, json!({"prediction_type": "sample"}), 4,
         "option prediction_type of sampler euler_a is \"sample\", \
          wanted epsilon or v_prediction"),
        (euler, json!({"use_karras_sigmas": true, "use_beta_sigmas": true}), 4,
         "options use_karras_sigmas and use_beta_sigmas exclude each other"),
        (dpm, json!({"use_flow_sigmas": true}), 4,
         "option use_flow_sigmas of sampler dpm++2m is true, wanted false"),
        (dpm, json!({"solver_order": 4}), 4,
         "option solver_order of sampler dpm++2m is 4, wanted 1 to 3"),
        (dpm, json!({"algorithm_type": "dpmsolver"}), 4,
         "option final_sigmas_type of sampler dpm++2m is absent, \
          wanted sigma_min with this algorithm_type"),
        (dpm, json!({"algorithm_type": "sde-dpmsolver", "solver_order": 3}), 4,
         "option solver_order of sampler dpm++2m is 3, wanted 1 to 2"),
        (dpm, json!({"variance_type": "learned"}), 4,
         "option variance_type of sampler dpm++2m is \"learned\", wanted one of none, \
          fixed_small, fixed_small_log, fixed_large, fixed_large_log"),
        (dpm, json!({"lambda_min_clipped": "Infinity"}), 4,
         "option lambda_min_clipped of sampler dpm++2m is \"Infinity\", \
          wanted a number that some timestep exceeds"),
        (dpm, json!({"timestep_spacing": "leading"}), 1000,
         "step 1 of sampler dpm++2m at timestep 0 has no finite coefficients"),
        (unipc, json!({"solver_p": {}}), 4,
         "option solver_p of sampler unipc is {}, wanted null"),
        (unipc, json!({"predict_x0": false}), 4,
         "step 3 of sampler unipc at timestep 250 has no finite coefficients"),
        (lcm, json!({}), 51, "51 steps were asked of sampler lcm, wanted 1 to 50"),
        (lcm, json!({"original_inference_steps": 2000}), 4,
         "option original_inference_steps of sampler lcm is 2000, \
          wanted a whole number from 1 to 1000"),
        (lcm, json!({"strength": 0.001}), 1,
         "option strength of sampler lcm is 0.001, wanted enough to keep one of 50 timesteps"),
        (perflow, json!({"t_noise": 0.9}), 4,
         "option t_noise of sampler perflow is 0.9, wanted 1"),
        (perflow, json!({"num_time_windows": 0}), 4,
         "option num_time_windows of sampler perflow is 0, wanted 1 to 1000"),
    ];
    for (class, options, steps, wanted) in cases {
        check(class, options, steps, wanted);
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    #[track_caller]
    fn check(json: &str, wanted: &str) {
        let config = SamplerConfig::from_diffusers(json);
        let error = config
            .and_then(|config| table(&config, 4))
            .expect_err("it is refused");
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
    check("", "the sampler configuration is not JSON: ");
    check("[1]", "the sampler configuration is not JSON: ");
    check(
        &"[".repeat(100_000),
        "the sampler configuration is not JSON: ",
    );
    check(
        "{}",
        "the sampler class \"\" is not supported, wanted one of DDIMScheduler, DDPM",
    );
    check(
        r#"{"_class_name": "HeunDiscreteScheduler"}"#,
        "the sampler class \"HeunDiscrete",
    );
}

#[test]
fn a_class_that_is_not_supported_still_hands_over_its_schedule() {
    let model = MODEL.replace("DDIMScheduler", "HeunDiscreteScheduler");
    let model = SamplerConfig::from_diffusers(&model).expect("the model's file is JSON");
    let config = model.with_sampler("ddim").expect("the sampler exists");
    assert_eq!(
        table(&config, 1).expect("the table exists").steps[0].timestep,
        1.0
    );
    assert!(model.with_option("eta", json!(1.0)).is_err());
}

#[test]
fn overrides_that_cannot_work_are_refused() {
    let model = SamplerConfig::from_diffusers(MODEL).expect("the model's file is JSON");
    let refusal = |name: &str, option: &str| {
        let config = model.with_sampler(name).expect("the sampler exists");
        config
            .with_option(option, json!(true))
            .expect_err("it is refused")
            .to_string()
    };
    let no_karras = "sampler ddim has no option \"use_karras_sigmas\"";
    assert_eq!(refusal("ddim", "use_karras_sigmas"), no_karras);
    let no_spacing = "option timestep_spacing has no effect on sampler lcm";
    assert_eq!(refusal("lcm", "timestep_spacing"), no_spacing);
    let error = model
        .with_sampler("heun")
        .expect_err("it is refused")
        .to_string();
    assert!(
        error.starts_with("there is no sampler \"heun\", wanted one of ddim, ddpm"),
        "{error}"
    );
    let zero_snr = model
        .with_option("rescale_betas_zero_snr", json!(true))
        .expect("ddim has it");
    assert!(zero_snr.with_sampler("euler").is_ok());
    assert!(zero_snr.with_sampler("pndm").is_err());
}

/// Old files lack the offset of the timesteps and the clipping of clean latents, or have others.
#[test]
fn pipelines_of_stable_diffusion_mend_old_files() {
    #[track_caller]
    fn check(given: Value, pipeline: &str, sampler: Option<&str>, wanted: Value) {
        let file = |options: &Value| {
            let schedule = json!({"_class_name": "DDIMScheduler", "beta_end": 0.012});
            let mut file = schedule.as_object().expect("it is an object").clone();
            file.extend(options.as_object().expect("options are an object").clone());
            let file = Value::Object(file).to_string();
            SamplerConfig::from_diffusers(&file).expect("the file is JSON")
        };
        let taken_over = |config: SamplerConfig| match sampler {
            Some(name) => config.with_sampler(name).expect("the sampler exists"),
            None => config,
        };
        let found = taken_over(file(&given).in_pipeline(pipeline));
        let wanted_config = taken_over(file(&wanted));
        let place = format!("{given} in {pipeline} under {sampler:?}");
        assert_eq!(table(&found, 4), table(&wanted_config, 4), "{place}");
    }
    let (old, new) = (json!({}), json!({"steps_offset": 1, "clip_sample": false}));
    let other = json!({"steps_offset": 3, "clip_sample": true});
    let diffusion = "StableDiffusionPipeline";
    check(old.clone(), diffusion, None, new.clone());
    check(old.clone(), "ORTStableDiffusionPipeline", None, new.clone());
    check(other.clone(), diffusion, None, new.clone());
    check(other.clone(), diffusion, Some("euler"), new.clone());
    check(new.clone(), diffusion, None, new.clone());
    // What the file lacks is mended for its own sampler alone.
    check(old.clone(), diffusion, Some("ddim"), old.clone());
    check(old.clone(), diffusion, Some("pndm"), old.clone());
    for pipeline in [
        "StableDiffusionXLPipeline",
        "LatentConsistencyModelPipeline",
    ] {
        check(old.clone(), pipeline, None, old.clone());
        check(other.clone(), pipeline, None, other.clone());
    }
}
