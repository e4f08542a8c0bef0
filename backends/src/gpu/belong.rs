//! Whether commands are those of a program: what an executor relies on beyond [`super::validate`].
//!
//! Takes valid commands, from a file perhaps, and the regions of the program that they are said to
//! compute. It looks at names, types and places; what kernels compute it cannot know.
//!
//! Commands belong to regions when
//! * B1: every region that they name exists;
//! * B2: inputs and results are the program's, of its types;
//! * B3: what is written once is a weight or a constant of the program, of its type and order;
//! * B4: what the host exchanges with the device is read or stored by that region, of its type;
//! * B5: all that the host reads is given: an input, a weight, a constant, stored by the host
//!   before, or on the device;
//! * B6: states are the program's, of its types, each once.

use std::collections::BTreeSet;

use compiler::graph::Role;
use compiler::region::{Buffer, BufferData, Content, Region, RegionId, Regions};
use compiler::value::extents::Extents;
use thiserror::Error;

use super::commands::{Commands, Hosted, Port, Source, Upload};

/// Why commands are not those of a program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Foreign {
    /// B1.
    #[error("found {region} of {regions} regions (B1)")]
    Region {
        /// The region.
        region: RegionId,
        /// How many there are.
        regions: usize,
    },
    /// B2 to B4 and B6, of a name.
    #[error("{what} is none of the program's (B2, B3, B4, B6)")]
    Unknown {
        /// The input, result, upload or exchange.
        what: String,
    },
    /// B2 to B4 and B6, of a type.
    #[error("{what} is {} {:?}, wanted {} {:?} (B2, B3, B4, B6)", .found.dtype, .found.shape, .wanted.dtype, .wanted.shape)]
    Type {
        /// The input, result, upload or exchange.
        what: String,
        /// What the commands say.
        found: Extents,
        /// What the program says, with its axes as they lie on the device.
        wanted: Extents,
    },
    /// B3, of an order.
    #[error("{what} lies with its axes in order {found:?}, wanted {wanted:?} (B3)")]
    Order {
        /// The upload.
        what: String,
        /// What the commands say.
        found: Vec<usize>,
        /// What the program says.
        wanted: Vec<usize>,
    },
    /// B5.
    #[error("{region} of the host reads {buffer}, which nothing gives it (B5)")]
    NotGiven {
        /// The region.
        region: RegionId,
        /// What it reads.
        buffer: Buffer,
    },
}

/// Checks that commands belong to regions, which [`super::compile::regions`] makes of a program.
///
/// # Errors
/// The first rule that does not hold, and where.
pub fn belong(commands: &Commands, regions: &Regions) -> Result<(), Foreign> {
    for launch in &commands.launches {
        region(launch.region, regions)?;
    }
    ports(commands, regions)?;
    for upload in &commands.uploads {
        check_upload(upload, regions)?;
    }
    hosted(commands, regions)
}

/// B1.
fn region(id: RegionId, regions: &Regions) -> Result<&Region, Foreign> {
    let region = regions.regions.get(id.0 as usize);
    region.ok_or(Foreign::Region {
        region: id,
        regions: regions.regions.len(),
    })
}

/// The buffer of a parameter.
fn param(regions: &Regions, role: Role, name: &str) -> Option<Buffer> {
    let mut params = regions.params();
    let own = params.find(|(_, own)| own.role == role && own.name == name);
    own.map(|(buffer, _)| buffer)
}

/// B2.
fn ports(commands: &Commands, regions: &Regions) -> Result<(), Foreign> {
    for port in &commands.inputs {
        let what = || format!("input {:?}", port.name);
        let buffer = param(regions, Role::Input, &port.name);
        typed(port, buffer, regions, what)?;
    }
    for port in &commands.outputs {
        let what = || format!("result {:?}", port.name);
        let mut results = regions.results.iter();
        let found = results.find(|(name, _)| *name == port.name);
        typed(port, found.map(|(_, buffer)| *buffer), regions, what)?;
    }
    states(commands, regions)
}

/// B6.
fn states(commands: &Commands, regions: &Regions) -> Result<(), Foreign> {
    let own: Vec<&BufferData> = regions
        .buffers
        .iter()
        .filter(|data| data.is_state())
        .collect();
    if own.len() != commands.states.len() {
        let what = format!("a list of {} states", commands.states.len());
        return Err(Foreign::Unknown { what });
    }
    for port in &commands.states {
        let what = || format!("state {:?}", port.name);
        let buffer = param(regions, Role::State, &port.name);
        typed(port, buffer, regions, what)?;
    }
    Ok(())
}

/// Checks that a port has its buffer, and the type of it, with its axes as they lie.
fn typed(
    port: &Port,
    buffer: Option<Buffer>,
    regions: &Regions,
    what: impl Fn() -> String,
) -> Result<(), Foreign> {
    let buffer = buffer.ok_or_else(|| Foreign::Unknown { what: what() })?;
    let data = regions.buffer(buffer);
    let lie = data.order.iter().map(|&axis| data.extents.shape[axis]);
    let wanted = Extents {
        dtype: data.extents.dtype,
        shape: lie.collect(),
    };
    match port.extents == wanted {
        true => Ok(()),
        false => Err(Foreign::Type {
            what: what(),
            found: port.extents.clone(),
            wanted,
        }),
    }
}

/// B3.
fn check_upload(upload: &Upload, regions: &Regions) -> Result<(), Foreign> {
    let what = || upload.source.to_string();
    let constant = |buffer: Buffer| {
        let data = regions.buffers.get(buffer.0 as usize)?;
        matches!(data.content, Content::Constant(_)).then_some(buffer)
    };
    let buffer = match &upload.source {
        Source::Weight(name) => param(regions, Role::Weight, name),
        Source::Constant(buffer) => constant(*buffer),
    };
    let buffer = buffer.ok_or_else(|| Foreign::Unknown { what: what() })?;
    let data = regions.buffer(buffer);
    if upload.extents != data.extents {
        return Err(Foreign::Type {
            what: what(),
            found: upload.extents.clone(),
            wanted: data.extents.clone(),
        });
    }
    match upload.order == data.order {
        true => Ok(()),
        false => Err(Foreign::Order {
            what: what(),
            found: upload.order.clone(),
            wanted: data.order.clone(),
        }),
    }
}

/// B4 and B5.
fn hosted(commands: &Commands, regions: &Regions) -> Result<(), Foreign> {
    let buffers = regions.buffers.iter().enumerate();
    let given = buffers.filter(|(_, data)| data.content != Content::Computed && !data.is_state());
    let mut given: BTreeSet<Buffer> = given.map(|(place, _)| Buffer(place as u32)).collect();
    for Hosted {
        region: id,
        reads,
        stores,
        ..
    } in &commands.hosted
    {
        let own = region(*id, regions)?;
        let sides = [(reads, own.reads()), (stores, own.stores())];
        for (ports, buffers) in &sides {
            for (buffer, port) in *ports {
                let what = || format!("{buffer} of {id} of the host");
                let own = buffers.contains(buffer).then_some(*buffer);
                typed(port, own, regions, what)?;
            }
        }
        given.extend(reads.iter().map(|(buffer, _)| *buffer));
        if let Some(&buffer) = sides[0].1.iter().find(|buffer| !given.contains(buffer)) {
            let region = *id;
            return Err(Foreign::NotGiven { region, buffer });
        }
        given.extend(own.stores());
    }
    Ok(())
}
