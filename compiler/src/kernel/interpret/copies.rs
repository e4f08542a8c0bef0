//! Asynchronous copies that are on their way.
//!
//! Takes copies, commits and waits of numbered invocations, gives the elements that arrive. It
//! knows no memory.

use std::collections::VecDeque;

use crate::kernel::SharedId;

/// An element of a shared memory.
pub(super) type Place = (SharedId, u32);

/// The copies of all invocations of a workgroup.
#[derive(Debug, Default)]
pub(super) struct Copies {
    by_invocation: Vec<Own>,
}

/// Those of one invocation.
#[derive(Debug, Clone, Default)]
struct Own {
    /// Since the last commit.
    open: Vec<Place>,
    /// Committed, the earliest first.
    groups: VecDeque<Vec<Place>>,
}

impl Copies {
    fn of(&mut self, who: u32) -> &mut Own {
        let count = self.by_invocation.len().max(who as usize + 1);
        self.by_invocation.resize(count, Own::default());
        &mut self.by_invocation[who as usize]
    }

    /// No copy is on its way.
    pub(super) fn clear(&mut self) {
        self.by_invocation.clear();
    }

    pub(super) fn begin(&mut self, who: u32, place: Place) {
        self.of(who).open.push(place);
    }

    pub(super) fn commit(&mut self, who: u32) {
        let own = self.of(who);
        let group = std::mem::take(&mut own.open);
        own.groups.push_back(group);
    }

    /// What arrives when all groups do, except the `latest` most recent.
    pub(super) fn wait(&mut self, who: u32, latest: u8) -> Vec<Place> {
        let groups = &mut self.of(who).groups;
        let count = groups.len().saturating_sub(usize::from(latest));
        groups.drain(..count).flatten().collect()
    }
}
