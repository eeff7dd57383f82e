//! Reuses the memory of leaves.

use super::{Capture, ClientId};
use crate::core::args::Args;
use crate::core::event::Keeps;
use crate::core::leaf::{Found, Leaf};
use crate::core::table::CommandSpec;

impl Capture {
    pub(super) fn new_leaf<'a>(
        &mut self,
        client: ClientId,
        spec: Option<&'static CommandSpec>,
        db: Option<u32>,
        args: impl Iterator<Item = &'a [u8]>,
    ) -> Box<Leaf> {
        let new = || Box::new(Leaf::new(client, spec, Args::default(), Vec::new(), db));
        let mut leaf = self.spare.pop().unwrap_or_else(new);
        (leaf.client, leaf.spec, leaf.db, leaf.wrapped) = (client, spec, db, false);
        leaf.args.fill(args);
        leaf.keys.clear();
        leaf
    }

    /// The leaf is no longer needed: keeps its memory.
    pub fn recycle(&mut self, mut leaf: Box<Leaf>) {
        const SPARE_LEAVES: usize = 16;
        const SPARE_BYTES: usize = 64 * 1024;
        if self.spare.len() < SPARE_LEAVES && leaf.args.capacity() <= SPARE_BYTES {
            leaf.events.clear();
            leaf.args.clear();
            leaf.told = None;
            leaf.proof = None;
            leaf.keeps = Keeps::None;
            leaf.found = Found::default();
            self.spare.push(leaf);
        }
    }
}
