//! `splamc devices`: what it lists on this machine, and what it says where there is no adapter.

use std::process::Output;

use serde_json::Value;

use crate::support::splamc;

/// Runs `devices` with these arguments, where the loader of Vulkan drivers finds what the machine
/// has, or nothing.
fn devices(arguments: &[&str], drivers: bool) -> String {
    let mut command = splamc();
    command.arg("devices").args(arguments);
    if !drivers {
        // The two names that the loader has had for it.
        let nowhere = "/nowhere.json";
        command
            .env("VK_DRIVER_FILES", nowhere)
            .env("VK_ICD_FILENAMES", nowhere);
    }
    let Output { status, stdout, .. } = command.output().expect("the command starts");
    assert!(status.success());
    String::from_utf8(stdout).expect("text")
}

fn targets(drivers: bool) -> Vec<Value> {
    let object: Value = serde_json::from_str(&devices(&["--json"], drivers)).expect("one object");
    object["targets"].as_array().expect("a list").clone()
}

/// The objects of one target.
fn named(targets: &[Value], name: &str) -> Vec<Value> {
    let of = targets.iter().filter(|target| target["target"] == name);
    of.cloned().collect()
}

#[test]
fn the_processor_is_always_usable() {
    for drivers in [true, false] {
        let cpu = &named(&targets(drivers), "cpu")[0];
        assert_eq!(cpu["usable"], true);
        assert!(cpu["threads"].as_u64().is_some_and(|threads| threads > 0));
        assert!(devices(&[], drivers).starts_with("cpu   "));
    }
}

#[test]
fn adapters_tell_their_features_and_limits() {
    let wgsl = named(&targets(true), "wgsl");
    let text = devices(&[], true);
    assert!(!wgsl.is_empty());
    for (index, adapter) in wgsl.iter().enumerate() {
        if adapter["usable"] == false {
            assert!(text.contains("wgsl  not usable: "));
            continue;
        }
        assert_eq!(adapter["adapter"], index);
        let name = adapter["name"].as_str().expect("a name");
        assert!(
            text.contains(&format!("wgsl  adapter {index}: {name}\n")),
            "{text}"
        );
        // What the specification grants at least.
        let least = [
            ("maxStorageBufferBindingSize", 128 << 20),
            ("maxBufferSize", 256 << 20),
            ("maxStorageBuffersPerShaderStage", 8),
            ("maxComputeWorkgroupStorageSize", 16 << 10),
            ("maxComputeInvocationsPerWorkgroup", 128),
            ("maxComputeWorkgroupsPerDimension", 65_535),
        ];
        for (limit, least) in least {
            let found = adapter["limits"][limit].as_u64();
            assert!(
                found.is_some_and(|found| found >= least),
                "{limit} is {found:?}"
            );
        }
        for feature in ["shader-f16", "timestamp-query"] {
            assert!(adapter["features"][feature].is_boolean(), "{feature}");
        }
    }
}

#[test]
#[cfg(all(target_os = "linux", feature = "webgpu"))]
fn without_a_driver_a_package_is_named() {
    let wgsl = named(&targets(false), "wgsl");
    assert_eq!(wgsl.len(), 1);
    assert_eq!(wgsl[0]["usable"], false);
    assert_eq!(wgsl[0]["reason"], "found no WebGPU adapter");
    let text = devices(&[], false);
    let said = "wgsl  not usable: found no WebGPU adapter\n      install a driver of your graphics \
                card; Debian's package mesa-vulkan-drivers also has one that computes on the \
                processor\n";
    assert!(text.contains(said), "{text}");
}
