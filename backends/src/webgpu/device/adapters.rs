//! Adapters: what can execute WGSL here.
//!
//! Gives plain data about each adapter that the drivers of this machine offer, and finds the one
//! that a user names. It opens none.

use std::str::FromStr;

use compiler::target::Limits;

use super::DeviceError;
use crate::gpu::commands::Requirements;

/// What one adapter is and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its number, by which users may choose it.
    pub index: usize,
    /// The name that its driver gives.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The interface that it is driven through, such as `vulkan`.
    pub interface: &'static str,
    /// The driver with its version.
    pub driver: String,
    /// The most that it grants.
    pub grants: Requirements,
    /// Whether it measures time by itself: the feature `timestamp-query`.
    pub timestamp_query: bool,
}

/// A kind of adapter, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A graphics processor with memory of its own.
    Discrete,
    /// A graphics processor that shares the machine's memory.
    Integrated,
    /// A share of one in another machine.
    Virtual,
    /// Unknown.
    Other,
    /// Software on the processor.
    Software,
}

impl Kind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Discrete => "discrete",
            Kind::Integrated => "integrated",
            Kind::Virtual => "virtual",
            Kind::Other => "other",
            Kind::Software => "software",
        }
    }
}

/// Which adapter to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one of the preferred kind; software if there is nothing else.
    Best,
    /// The one of that number.
    Index(usize),
    /// The first of the preferred kind with these words in its name, in any case.
    Name(String),
}

impl FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Choice, Self::Err> {
        Ok(match text.parse() {
            Ok(index) => Choice::Index(index),
            Err(_) => Choice::Name(text.to_owned()),
        })
    }
}

/// All adapters of this machine that can compute, software ones too; empty where there is none.
pub fn adapters() -> Vec<Adapter> {
    found().into_iter().map(|(adapter, _)| adapter).collect()
}

/// What is known of the adapter that is chosen.
///
/// # Errors
/// When there is no such adapter.
pub fn adapter(choice: &Choice) -> Result<Adapter, DeviceError> {
    find(choice).map(|(adapter, _)| adapter)
}

/// The adapter that is chosen.
pub(super) fn find(choice: &Choice) -> Result<(Adapter, wgpu::Adapter), DeviceError> {
    let mut found = found();
    let place = choose(choice, found.iter().map(|(adapter, _)| adapter))?;
    Ok(found.swap_remove(place))
}

/// The place of the chosen one.
fn choose<'a>(
    choice: &Choice,
    adapters: impl Iterator<Item = &'a Adapter> + Clone,
) -> Result<usize, DeviceError> {
    if adapters.clone().next().is_none() {
        return Err(DeviceError::NoAdapter);
    }
    let fits = |adapter: &Adapter| match choice {
        Choice::Best => true,
        Choice::Index(index) => adapter.index == *index,
        Choice::Name(name) => adapter.name.to_lowercase().contains(&name.to_lowercase()),
    };
    let fitting = adapters.clone().enumerate().filter(|(_, a)| fits(a));
    let best = fitting.min_by_key(|(_, adapter)| adapter.kind);
    best.map(|(place, _)| place)
        .ok_or_else(|| DeviceError::NoSuchAdapter {
            wanted: match choice {
                Choice::Best => String::new(),
                Choice::Index(index) => index.to_string(),
                Choice::Name(name) => name.clone(),
            },
            found: adapters
                .map(|a| format!("{} {}", a.index, a.name))
                .collect(),
        })
}

fn found() -> Vec<(Adapter, wgpu::Adapter)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    // The same in every build: no debugging layers of drivers.
    descriptor.flags = wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL;
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let computes = |adapter: &wgpu::Adapter| {
        let flags = adapter.get_downlevel_capabilities().flags;
        flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    };
    let adapters = adapters.into_iter().filter(computes).enumerate();
    adapters
        .map(|(index, adapter)| (describe(index, &adapter), adapter))
        .collect()
}

fn describe(index: usize, adapter: &wgpu::Adapter) -> Adapter {
    let info = adapter.get_info();
    let features = adapter.features();
    let driver = match info.driver_info.is_empty() {
        true => info.driver,
        false => format!("{} ({})", info.driver, info.driver_info),
    };
    Adapter {
        index,
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Other => Kind::Other,
            wgpu::DeviceType::Cpu => Kind::Software,
        },
        interface: info.backend.to_str(),
        driver,
        grants: grants(&adapter.limits(), features),
        timestamp_query: features.contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// What limits and features grant.
fn grants(limits: &wgpu::Limits, features: wgpu::Features) -> Requirements {
    Requirements {
        limits: Limits {
            alignment: limits.min_storage_buffer_offset_alignment.into(),
            binding_bytes_max: limits.max_storage_buffer_binding_size,
            buffer_bytes_max: limits.max_buffer_size,
            buffers_max: limits.max_storage_buffers_per_shader_stage,
            shared_bytes_max: limits.max_compute_workgroup_storage_size,
            invocations_max: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            groups_max: limits.max_compute_workgroups_per_dimension,
            warp: 0,
        },
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: Kind) -> Adapter {
        Adapter {
            index,
            name: name.to_owned(),
            kind,
            interface: "vulkan",
            driver: String::new(),
            grants: Requirements::DEFAULT,
            timestamp_query: false,
        }
    }

    #[test]
    fn a_choice_is_a_number_or_words_of_a_name() {
        let adapters = [
            adapter(0, "llvmpipe", Kind::Software),
            adapter(1, "Radeon 780M", Kind::Integrated),
            adapter(2, "Radeon 7900", Kind::Discrete),
        ];
        let rows = [
            (Choice::Best, Ok(2)),
            ("0".parse().expect("any text is a choice"), Ok(0)),
            ("780m".parse().expect("any text is a choice"), Ok(1)),
            ("radeon".parse().expect("any text is a choice"), Ok(2)),
            (
                Choice::Index(3),
                Err("found no adapter \"3\" among 0 llvmpipe, 1 Radeon 780M, 2 Radeon 7900"),
            ),
        ];
        for (choice, wanted) in rows {
            let found = choose(&choice, adapters.iter()).map_err(|e| e.to_string());
            assert_eq!(found, wanted.map_err(str::to_owned), "{choice:?}");
        }
        assert_eq!(
            choose(&Choice::Best, [].iter()),
            Err(DeviceError::NoAdapter)
        );
    }
}
