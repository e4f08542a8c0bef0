//! Places: where every buffer of a program lies on a device.
//!
//! Takes regions, the forms of their buffers and what the host computes; plans slabs for what lies
//! between kernels, fills pages with what never changes, and gives every state a buffer of its own.
//! It compiles no kernel.

use std::collections::BTreeMap;

use compiler::graph::Role;
use compiler::plan::{END, Lifetime, Plan, PlanError, Update, lifetimes, plan, updates};
use compiler::region::{Buffer, Content, Region, RegionId, Regions};

use super::buffers::{head, number, window_bytes};
use super::commands::{
    ALIGNMENT, Argument, Hosted, Pool, Port, Requirements, Source, StoredAs, Upload,
};
use super::hosted::early;

/// The places of one program's buffers.
pub(super) struct Places<'a> {
    regions: &'a Regions,
    pub(super) forms: Vec<StoredAs>,
    pub(super) plan: Plan,
    updates: Vec<Update>,
    /// The regions that the host computes before anything is launched.
    early: Vec<RegionId>,
    pages: Pages,
}

impl<'a> Places<'a> {
    /// Plans a program of which the host computes some regions.
    ///
    /// # Errors
    /// When a buffer does not fit in a binding, or no plan in numbers.
    pub(super) fn new(
        regions: &'a Regions,
        forms: Vec<StoredAs>,
        hosted: &BTreeMap<RegionId, String>,
        requirements: &Requirements,
    ) -> Result<Places<'a>, PlanError> {
        let updates = updates(regions);
        let early = early(regions, &updates, hosted);
        let lifetimes = on_device(regions, &updates, &forms, hosted, &early);
        Ok(Places {
            regions,
            forms,
            plan: plan(&lifetimes, &requirements.limits)?,
            updates,
            early,
            pages: Pages::new(requirements),
        })
    }

    /// The state that lies where a buffer does: itself, or one that it is stored in place of.
    fn state(&self, buffer: Buffer) -> Option<usize> {
        let lies = |update: &Update| {
            update.state == buffer || (update.in_place && update.result == buffer)
        };
        self.updates.iter().position(lies)
    }

    /// Where a buffer lies for kernels and the host.
    ///
    /// # Panics
    /// When it lies nowhere on the device.
    pub(super) fn window(&mut self, buffer: Buffer) -> Argument {
        let data = self.regions.buffer(buffer);
        let bytes = window_bytes(data, self.forms[number(buffer)]);
        if data.is_fixed() {
            return self.pages.window(buffer, bytes);
        }
        if let Some(state) = self.state(buffer) {
            return Argument {
                pool: Pool::States,
                buffer: state,
                offset: 0,
                bytes,
            };
        }
        let place = self.planned(buffer);
        place.expect("what a kernel touches has a place")
    }

    /// Where a buffer lies in the arena; a part of a joined one begins at the last aligned byte
    /// before its first element.
    fn planned(&self, buffer: Buffer) -> Option<Argument> {
        let (home, start) = self.regions.part_of(buffer).unwrap_or((buffer, 0));
        let (slab, offset) = self.plan.address(self.plan.place(home)?);
        let ahead = WORD * head(self.regions, buffer) as u64;
        let data = self.regions.buffer(buffer);
        let form = self.forms[number(buffer)];
        let bytes = match home == buffer {
            true => window_bytes(data, form),
            // Rounded up from the aligned byte: no window reaches beyond the joined buffer.
            false => (ahead + form.bytes(data.extents.elements())?).next_multiple_of(16),
        };
        Some(Argument {
            pool: Pool::Arena,
            buffer: slab,
            offset: offset + WORD * start as u64 - ahead,
            bytes,
        })
    }

    /// What a region reads where it stores: `(read, stored)`.
    pub(super) fn shared(&self, region: &Region) -> Vec<(Buffer, Buffer)> {
        let home = |buffer: Buffer| match self.state(buffer) {
            Some(state) => Some((Pool::States, state)),
            None => {
                let place = self.plan.place(buffer)?;
                Some((Pool::Arena, place.storage))
            }
        };
        let mut shared = Vec::new();
        for stored in region.outputs.iter().map(|output| output.buffer) {
            for read in region.reads() {
                if home(read).is_some() && home(read) == home(stored) {
                    shared.push((read, stored));
                }
            }
        }
        shared
    }

    /// A region that the host computes after so many launches.
    pub(super) fn hosted(&mut self, id: RegionId, region: &Region, launches: usize) -> Hosted {
        let mut windows = |buffers: Vec<Buffer>| {
            let mut ports = Vec::new();
            for buffer in buffers {
                if self.state(buffer).is_some() || self.planned(buffer).is_some() {
                    ports.push((buffer, self.port(&buffer.to_string(), buffer)));
                }
            }
            ports
        };
        let (reads, stores) = (windows(region.reads()), windows(region.stores()));
        Hosted {
            region: id,
            before: match self.early.contains(&id) {
                true => 0,
                false => launches,
            },
            reads,
            stores,
        }
    }

    /// A buffer as the host writes and reads it.
    fn port(&mut self, name: &str, buffer: Buffer) -> Port {
        let window = self.window(buffer);
        let ahead = WORD * head(self.regions, buffer) as u64;
        let offset = window.offset + ahead;
        self.port_at(name, buffer, Argument { offset, ..window })
    }

    fn port_at(&self, name: &str, buffer: Buffer, window: Argument) -> Port {
        let form = self.forms[number(buffer)];
        let data = self.regions.buffer(buffer);
        let mut extents = data.extents.clone();
        extents.shape = data
            .order
            .iter()
            .map(|&axis| data.extents.shape[axis])
            .collect();
        let bytes = form.bytes(extents.elements()).unwrap_or(u64::MAX);
        Port {
            name: name.to_owned(),
            extents,
            window: Argument { bytes, ..window },
            stored: form,
        }
    }

    /// Where inputs are written, if anything on the device reads them.
    pub(super) fn inputs(&mut self) -> Vec<Port> {
        let mut inputs = Vec::new();
        for (buffer, param) in self.regions.params() {
            if param.role == Role::Input && self.plan.place(buffer).is_some() {
                inputs.push(self.port(&param.name, buffer));
            }
        }
        inputs
    }

    /// Where results are read that lie on the device; new states are none.
    pub(super) fn outputs(&mut self) -> Vec<Port> {
        let mut outputs = Vec::new();
        for (name, buffer) in &self.regions.results {
            if self.updates.iter().any(|own| self.name(own.state) == name) {
                continue;
            }
            // An old state that is returned was copied to the arena.
            if let Some(window) = self.planned(*buffer) {
                outputs.push(self.port_at(name, *buffer, window));
            } else if self.state(*buffer).is_some() {
                outputs.push(self.port(name, *buffer));
            }
        }
        outputs
    }

    /// The states, in order.
    pub(super) fn states(&mut self) -> Vec<Port> {
        let states: Vec<Buffer> = self.updates.iter().map(|update| update.state).collect();
        let port = |state: Buffer| self.port(self.name(state), state);
        states.into_iter().map(port).collect()
    }

    /// What is copied after a run, all of it read before the first is written: new states to the
    /// old ones, and old ones that are results to where they stay.
    pub(super) fn copies(&mut self) -> Vec<(Argument, Argument)> {
        let mut copies = Vec::new();
        for update in self.updates.clone() {
            let state = self.window(update.state);
            if let Some(kept) = self.planned(update.state) {
                copies.push((state, kept));
            }
            if !update.in_place && update.result != update.state {
                let bytes = state.bytes;
                let from = self.window(update.result);
                copies.push((Argument { bytes, ..from }, state));
            }
        }
        copies
    }

    fn name(&self, param: Buffer) -> &'a str {
        match &self.regions.buffer(param).content {
            Content::Param(param) => &param.name,
            Content::Constant(_) | Content::Computed => "",
        }
    }

    /// Bytes of each page, and what is written to them once.
    pub(super) fn uploads(&self) -> (Vec<u64>, Vec<Upload>) {
        let uploads = self.pages.windows.iter().map(|(&buffer, &window)| {
            let data = self.regions.buffer(buffer);
            let stored = self.forms[number(buffer)];
            let bytes = stored.bytes(data.extents.elements()).unwrap_or(0);
            Upload {
                source: match &data.content {
                    Content::Param(param) => Source::Weight(param.name.clone()),
                    Content::Constant(_) | Content::Computed => Source::Constant(buffer),
                },
                extents: data.extents.clone(),
                order: data.order.clone(),
                window: Argument { bytes, ..window },
                stored,
            }
        });
        (self.pages.pages.clone(), uploads.collect())
    }
}

/// Bytes of an element of a joined buffer.
const WORD: u64 = 4;

/// The lifetimes of what lies on the device, in its forms: what only the host reads and stores
/// does not, and what it computes early is there from the beginning. States that are results and
/// replaced are copied at the end.
fn on_device(
    regions: &Regions,
    updates: &[Update],
    forms: &[StoredAs],
    hosted: &BTreeMap<RegionId, String>,
    early: &[RegionId],
) -> Vec<Lifetime> {
    let home = |buffer: Buffer| number(regions.part_of(buffer).map_or(buffer, |(whole, _)| whole));
    let mut touched = vec![false; regions.buffers.len()];
    let mut first = vec![None; regions.buffers.len()];
    for (id, region) in regions.iter() {
        for buffer in region.reads().into_iter().chain(region.stores()) {
            touched[home(buffer)] |= !hosted.contains_key(&id);
        }
        for buffer in region.stores() {
            first[number(buffer)] = Some(id);
        }
    }
    for update in updates {
        touched[number(update.result)] = true;
    }
    let mut found = lifetimes(regions);
    found.retain(|lifetime| touched[number(lifetime.buffer)]);
    for lifetime in &mut found {
        let buffer = number(lifetime.buffer);
        lifetime.bytes = window_bytes(&regions.buffers[buffer], forms[buffer]);
        if first[buffer].is_some_and(|id| early.contains(&id)) {
            lifetime.birth = 0;
        }
        let on_host = first[buffer].is_some_and(|id| hosted.contains_key(&id));
        let same = |other: &Buffer| forms[number(*other)] == forms[buffer];
        lifetime.overwrites.retain(|other| !on_host && same(other));
    }
    found.extend(kept(regions, updates, forms));
    found.sort_by_key(|lifetime| lifetime.birth);
    let births: BTreeMap<Buffer, usize> = found
        .iter()
        .enumerate()
        .map(|(place, lifetime)| (lifetime.buffer, place))
        .collect();
    for (place, lifetime) in found.iter_mut().enumerate() {
        let before = |other: &Buffer| births.get(other).is_some_and(|&other| other < place);
        lifetime.overwrites.retain(before);
    }
    found
}

/// Room for old states that are results, and are replaced after the run.
fn kept(regions: &Regions, updates: &[Update], forms: &[StoredAs]) -> Vec<Lifetime> {
    let is_kept = |update: &&Update| {
        let mut results = regions.results.iter();
        update.result != update.state && results.any(|(_, buffer)| *buffer == update.state)
    };
    let lifetime = |update: &Update| Lifetime {
        buffer: update.state,
        origin: "an old state".to_owned(),
        bytes: window_bytes(regions.buffer(update.state), forms[number(update.state)]),
        birth: regions.regions.len() as u32 + 1,
        death: END,
        overwrites: Vec::new(),
    };
    updates.iter().filter(is_kept).map(lifetime).collect()
}

/// Pages of weights, filled one after another in the order in which weights are first read.
struct Pages {
    bytes_max: u64,
    pages: Vec<u64>,
    windows: BTreeMap<Buffer, Argument>,
}

impl Pages {
    fn new(requirements: &Requirements) -> Pages {
        Pages {
            bytes_max: requirements
                .limits
                .binding_bytes_max
                .min(requirements.limits.buffer_bytes_max),
            pages: Vec::new(),
            windows: BTreeMap::new(),
        }
    }

    fn window(&mut self, buffer: Buffer, bytes: u64) -> Argument {
        if let Some(window) = self.windows.get(&buffer) {
            return *window;
        }
        let room = bytes.next_multiple_of(ALIGNMENT);
        let full = self
            .pages
            .last()
            .is_none_or(|page| page + room > self.bytes_max);
        if full {
            self.pages.push(0);
        }
        let page = self.pages.len() - 1;
        let window = Argument {
            pool: Pool::Weights,
            buffer: page,
            offset: self.pages[page],
            bytes,
        };
        self.pages[page] += room;
        self.windows.insert(buffer, window);
        window
    }
}
