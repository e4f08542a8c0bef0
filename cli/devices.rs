//! `splamc devices`: what can execute programs here.
//!
//! Takes nothing, gives a table or a JSON object on standard output; a target that is not usable
//! says why.

use serde_json::{Value, json};

use crate::error::Failure;
use crate::memory;

/// List the targets usable on this machine, with what they offer; say why others are not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
    splamc devices
    splamc devices --json    # names, features and limits as one JSON object")]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what there is.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.json {
        true => {
            let mut targets = vec![cpu_json()];
            targets.extend(wgsl_json());
            println!("{:#}", json!({ "targets": targets }));
        }
        false => {
            println!("{}", cpu_text());
            println!("{}", wgsl_text());
        }
    }
    Ok(())
}

/// The types of weights that every target takes.
const TYPES: [&str; 3] = ["f32", "f16", "bf16"];

fn cpu_text() -> String {
    let cpu = runtime::devices::cpu();
    let (sets, types) = (cpu.instruction_sets.join(" "), TYPES.join(" "));
    let memory = memory::bytes().map(memory::gigabytes);
    let memory = memory.map_or(String::new(), |found| format!(", {found} GB of memory"));
    let (architecture, threads) = (cpu.architecture, cpu.threads);
    format!("cpu   {architecture} with {sets}, {threads} threads{memory}, {types}")
}

fn cpu_json() -> Value {
    let cpu = runtime::devices::cpu();
    json!({
        "target": "cpu",
        "usable": true,
        "architecture": cpu.architecture,
        "instruction_sets": cpu.instruction_sets,
        "threads": cpu.threads,
        "memory_bytes": memory::bytes(),
        "dtypes": TYPES,
    })
}

#[cfg(feature = "webgpu")]
use webgpu::{wgsl_json, wgsl_text};

#[cfg(feature = "webgpu")]
mod webgpu {
    use runtime::devices::{Adapter, DeviceError, adapters};
    use serde_json::{Value, json};

    /// A block of lines for each adapter, or why there is none.
    pub(super) fn wgsl_text() -> String {
        let adapters = adapters();
        if adapters.is_empty() {
            let (message, hint) = split(&DeviceError::NoAdapter);
            return format!("wgsl  not usable: {message}\n      {hint}");
        }
        let blocks: Vec<String> = adapters.iter().map(text).collect();
        blocks.join("\n")
    }

    fn text(adapter: &Adapter) -> String {
        let Adapter {
            index,
            name,
            kind,
            interface,
            driver,
            grants,
            timestamp_query,
        } = adapter;
        let mib = |bytes: u64| bytes >> 20;
        let features = [
            ("shader-f16", grants.shader_f16),
            ("timestamp-query", *timestamp_query),
        ];
        let features = features.map(|(feature, found)| match found {
            true => feature.to_owned(),
            false => format!("no {feature}"),
        });
        format!(
            "wgsl  adapter {index}: {name}\n      {}, {interface}, driver {driver}\n      {}\n      \
             {} MiB in a binding, {} MiB in a buffer, {} storage buffers\n      \
             {} KiB and {} invocations in a workgroup",
            kind.name(),
            features.join(", "),
            mib(grants.limits.binding_bytes_max),
            mib(grants.limits.buffer_bytes_max),
            grants.limits.buffers_max,
            grants.limits.shared_bytes_max >> 10,
            grants.limits.invocations_max,
        )
    }

    /// An object for each adapter, or one that says why there is none.
    pub(super) fn wgsl_json() -> Vec<Value> {
        let adapters = adapters();
        if adapters.is_empty() {
            let (message, hint) = split(&DeviceError::NoAdapter);
            return vec![json!({
                "target": "wgsl",
                "usable": false,
                "reason": message,
                "hint": hint,
            })];
        }
        adapters.iter().map(object).collect()
    }

    fn object(adapter: &Adapter) -> Value {
        json!({
            "target": "wgsl",
            "usable": true,
            "adapter": adapter.index,
            "name": adapter.name,
            "kind": adapter.kind.name(),
            "interface": adapter.interface,
            "driver": adapter.driver,
            "features": {
                "shader-f16": adapter.grants.shader_f16,
                "timestamp-query": adapter.timestamp_query,
            },
            "limits": {
                "maxStorageBufferBindingSize": adapter.grants.limits.binding_bytes_max,
                "maxBufferSize": adapter.grants.limits.buffer_bytes_max,
                "maxStorageBuffersPerShaderStage": adapter.grants.limits.buffers_max,
                "maxComputeWorkgroupStorageSize": adapter.grants.limits.shared_bytes_max,
                "maxComputeInvocationsPerWorkgroup": adapter.grants.limits.invocations_max,
                "maxComputeWorkgroupsPerDimension": adapter.grants.limits.groups_max,
            },
            "dtypes": super::TYPES,
        })
    }

    /// A message and its hint.
    fn split(error: &DeviceError) -> (String, String) {
        let text = error.to_string();
        let (message, hint) = text.split_once('\n').unwrap_or((&text, ""));
        let hint = hint.trim().trim_start_matches("hint: ");
        (message.to_owned(), hint.to_owned())
    }
}

/// Why a build without drivers lists nothing.
#[cfg(not(feature = "webgpu"))]
const ABSENT: &str = "this splamc was built without the feature webgpu";

#[cfg(not(feature = "webgpu"))]
fn wgsl_text() -> String {
    format!("wgsl  not usable: {ABSENT}")
}

#[cfg(not(feature = "webgpu"))]
fn wgsl_json() -> Vec<Value> {
    vec![json!({ "target": "wgsl", "usable": false, "reason": ABSENT })]
}
