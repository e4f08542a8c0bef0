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
    check("deis", 4, &[801.0, 601.0, 401.0, 201.0]);
    check("dpm++2s", 4, &[999.0, 749.0, 500.0, 250.0]);
    check("heun", 3, &[667.0, 334.0, 334.0, 1.0, 1.0]);
    check("lms", 4, &[751.0, 501.0, 251.0, 1.0]);
    check("instaflow", 4, &[1000.0, 750.0, 500.0, 250.0]);
    assert_eq!(names().count(), 22);
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
        (ddim, json!({"steps_offset": 600}), 2,
         "step 0 of sampler ddim falls on timestep 1100, wanted 0 to 999"),
        (ddim, json!({"steps_offset": 0.5}), 2,
         "option steps_offset of sampler ddim is 0.5, wanted a whole number"),
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
        ("DEISMultistepScheduler", json!({"algorithm_type": "sde-dpmsolver++"}), 4,
         "option algorithm_type of sampler deis is \"sde-dpmsolver++\", \
          wanted one of deis, dpmsolver, dpmsolver++"),
        ("KDPM2DiscreteScheduler", json!({"prediction_type": "sample"}), 4,
         "option prediction_type of sampler dpm2 is \"sample\", wanted epsilon or v_prediction"),
        ("IPNDMScheduler", json!({"trained_betas": [0.1]}), 4,
         "option trained_betas of sampler ipndm is [0.1], wanted null"),
        (perflow, json!({"t_noise": 0.9}), 4,
         "option t_noise of sampler perflow is 0.9, wanted 1"),
        (perflow, json!({"num_time_windows": 0}), 4,
         "option num_time_windows of sampler perflow is 0, wanted 1 to 1000"),
    ];
    for (class, options, steps, wanted) in cases {
        check(class, options, steps, wanted);
    }
}

/// What a run passes is checked as what a file holds.
#[test]
fn options_of_a_run_are_honoured_or_refused_by_name() {
    #[track_caller]
    fn check(class: &str, option: &str, value: Value, wanted: &str) {
        let config = with_options(class, json!({})).with_option(option, value);
        let found = config.and_then(|config| table(&config, 2));
        let found = found.map(|table| {
            let timesteps = table.steps.iter().map(|step| step.timestep);
            format!("{:?}", timesteps.collect::<Vec<_>>())
        });
        assert_eq!(found.unwrap_or_else(|error| error.to_string()), wanted);
    }
    let (ddim, lcm, euler) = ("DDIMScheduler", "LCMScheduler", "EulerDiscreteScheduler");
    let dpm = "DPMSolverMultistepScheduler";
    let fall = "wanted whole timesteps that fall, from at most 999 to at least 0";
    let levels = "wanted two or more noise levels that fall to 0";
    #[rustfmt::skip]
    let cases = [
        (ddim, "eta", json!(1.5), "option eta of sampler ddim is 1.5, wanted a number from 0 to 1"),
        (euler, "eta", json!(1), "sampler euler has no option \"eta\""),
        (ddim, "timesteps", json!([9, 1]), "sampler ddim has no option \"timesteps\""),
        (lcm, "strength", json!(0.001),
         "option strength of sampler lcm is 0.001, wanted enough to keep one of 50 timesteps"),
        (lcm, "timesteps", json!([939, 59]), "[939.0, 59.0]"),
        (dpm, "timesteps", json!([900, 600, 300]), "[900.0, 600.0, 300.0]"),
        (euler, "timesteps", json!([900.5, 10]), "[900.5, 10.0]"),
        (euler, "sigmas", json!([14.614647, 0.0]), "[999.0]"),
        (dpm, "timesteps", json!([1, 9]), &format!("option timesteps of sampler dpm++2m is [1,9], {fall}")),
        (dpm, "timesteps", json!([1000]), &format!("option timesteps of sampler dpm++2m is [1000], {fall}")),
        (lcm, "timesteps", json!([9.5]), &format!("option timesteps of sampler lcm is [9.5], {fall}")),
        (euler, "sigmas", json!([1.0, 2.0, 0.0]), &format!("option sigmas of sampler euler is [1.0,2.0,0.0], {levels}")),
        (euler, "sigmas", json!([1.0, 0.5]), &format!("option sigmas of sampler euler is [1.0,0.5], {levels}")),
    ];
    for (class, option, value, wanted) in cases {
        check(class, option, value, wanted);
    }
    let karras = with_options(euler, json!({"use_karras_sigmas": true}));
    let both = karras
        .with_option("timesteps", json!([9]))
        .expect("euler has it");
    let error = table(&both, 1).expect_err("a curve has timesteps of its own");
    let wanted = "options timesteps and use_karras_sigmas exclude each other";
    assert_eq!(error.to_string(), wanted);
}

/// Options that diffusers does not know, or that only a run passes, change nothing and are listed;
/// those of its first releases mean what they meant.
#[test]
fn unknown_and_old_options_of_a_file_are_read_as_diffusers_reads_them() {
    #[track_caller]
    fn check(options: Value, ignored: &[&str], same_as: Value) {
        let class = "DPMSolverMultistepScheduler";
        let (found, wanted) = (with_options(class, options), with_options(class, same_as));
        assert_eq!(found.ignored(), ignored);
        assert_eq!(table(&found, 4), table(&wanted, 4));
    }
    let sample = json!({"prediction_type": "sample"});
    check(
        json!({"new_option": null, "trained_betas": null}),
        &[],
        json!({}),
    );
    check(json!({"new_option": 3}), &["new_option"], json!({}));
    check(
        json!({"eta": 1.0, "timesteps": [5]}),
        &["eta", "timesteps"],
        json!({}),
    );
    check(
        json!({"skip_prk_steps": true, "tensor_format": "pt"}),
        &[],
        json!({}),
    );
    check(json!({"predict_epsilon": true}), &[], json!({}));
    check(json!({"predict_epsilon": false}), &[], sample.clone());
    check(json!({"predict_epsilon": null}), &[], json!({}));
    check(
        json!({"predict_epsilon": true, "prediction_type": "sample"}),
        &[],
        sample,
    );
    check(json!({"timestep_values": [1, 2]}), &[], json!({}));
    check(json!({"denoise_final": true}), &[], json!({}));
    check(
        json!({"denoise_final": false}),
        &[],
        json!({"lower_order_final": false}),
    );
}

/// diffusers loads the class that the index names, whatever the file says.
#[test]
fn the_class_of_the_index_takes_precedence() {
    #[track_caller]
    fn check(file: &str, class: &str, options: Value, same_as: Value) {
        let found = with_options(file, options).of_class(class);
        assert_eq!(
            table(&found, 4),
            table(&with_options(class, same_as), 4),
            "{file} as {class}"
        );
    }
    let pndm = json!({"skip_prk_steps": true, "set_alpha_to_one": false, "steps_offset": 1});
    let ddim = json!({"set_alpha_to_one": false, "steps_offset": 1});
    check("PNDMScheduler", "DDIMScheduler", pndm.clone(), ddim.clone());
    check("DDIMScheduler", "PNDMScheduler", pndm.clone(), pndm.clone());
    check(
        "Unheard",
        "EulerDiscreteScheduler",
        json!({"use_karras_sigmas": true}),
        json!({"use_karras_sigmas": true}),
    );
    // Options of both classes go on to a third one.
    let third = with_options(
        "PNDMScheduler",
        json!({"use_karras_sigmas": true, "steps_offset": 1}),
    );
    let third = third
        .of_class("DDIMScheduler")
        .with_sampler("euler")
        .expect("it exists");
    let wanted = with_options(
        "EulerDiscreteScheduler",
        json!({"use_karras_sigmas": true, "steps_offset": 1}),
    );
    assert_eq!(table(&third, 4), table(&wanted, 4));
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
        r#"{"_class_name": "ScoreSdeVeScheduler"}"#,
        "the sampler class \"ScoreSdeVe",
    );
}

#[test]
fn a_class_that_is_not_supported_still_hands_over_its_schedule() {
    let model = MODEL.replace("DDIMScheduler", "ScoreSdeVeScheduler");
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
        .with_sampler("swim")
        .expect_err("it is refused")
        .to_string();
    assert!(
        error.starts_with("there is no sampler \"swim\", wanted one of ddim, ddpm"),
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
