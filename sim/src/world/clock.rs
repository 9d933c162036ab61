//! What an operator does about a node whose clock was ahead and is right again: stops it, lowers its mark, and starts it.

use std::time::Duration;

use tallymesh_core::storage::DataDir;

use super::World;

/// So far ahead a node may stay: waiting is then as good.
const WAITED_OUT: Duration = Duration::from_secs(1);

impl World<'_> {
    /// If a repaired node acts on a time that is far ahead of its clock, or would when it starts, its process ends, and its mark
    /// is lowered: the one exception to I9.
    pub(super) fn lower_mark(&mut self, place: usize) {
        let now = self.nodes[place].clock.reading(self.now);
        let latest = now.plus(WAITED_OUT);
        if self.life(place).is_some() {
            if self.wall(place) <= latest {
                return;
            }
            self.kill(place);
        }
        let disk = self.nodes[place].disk.clone();
        // No process is there any more, so nothing can end it in the middle of a write.
        disk.crash(false);
        // What is not there, or damaged, is found when the node starts, and has no mark.
        let look = |lowers| {
            let open = || DataDir::on(Box::new(disk.clone()));
            // As when a node does not start: what names the directory has rotted, and the operator takes it away first.
            let dir = open().or_else(|_| {
                disk.remove_identity();
                open()
            });
            dir.ok().and_then(|mut dir| dir.clock_mark(now, lowers).ok())
        };
        if look(false).is_some_and(|found| found.mark > latest) && look(true).is_some() {
            // Windows to come are dropped, and no watermark vouches for anything.
            self.forget_disk(place);
            self.checker.lowered();
        }
    }
}
