//! Deliberate mistakes, to find out whether the simulator's checker would notice them.
//!
//! They are compiled in with the feature `mutants` only, and each lives only where a simulation has set it. Everywhere
//! else `mutant!` is plain `false`.

/// Whether the named mistake is to be made here.
#[macro_export]
macro_rules! mutant {
    ($mutant:ident) => {{
        #[cfg(feature = "mutants")]
        let lives = $crate::mutant::Mutant::lives($crate::mutant::Mutant::$mutant);
        #[cfg(not(feature = "mutants"))]
        let lives = false;
        lives
    }};
}
pub use mutant;

/// A classic mistake of replicated counters.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A restart goes on under the replica id of the life before, although that may have lost increments.
    ReplicaIdReused,
    /// An urgent push moves the watermark over what was not sent.
    WatermarkMovedByPush,
    /// Each part of a chain of deltas moves the watermark, not only the last.
    WatermarkMovedByPart,
    /// A changed cell counts as told once it is sent, whatever changed since its version was given.
    DirtyClearedAtSend,
    /// A counter that begins anew zeroes the own cell in place.
    OwnCellZeroed,
    /// News of a counter that ended long ago brings it back.
    ExpiredRecreated,
    /// Cells that cannot be true are merged.
    ForgedCellMerged,
    /// The wall clock is believed when it steps back.
    ClockStepsBack,
    /// A checkpoint writes the watermarks before the cells that they vouch for.
    WatermarkBeforeCells,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 9] = [
        Mutant::ReplicaIdReused,
        Mutant::WatermarkMovedByPush,
        Mutant::WatermarkMovedByPart,
        Mutant::DirtyClearedAtSend,
        Mutant::OwnCellZeroed,
        Mutant::ExpiredRecreated,
        Mutant::ForgedCellMerged,
        Mutant::ClockStepsBack,
        Mutant::WatermarkBeforeCells,
    ];

    /// Lets a mutant live in this thread, in the place of any other.
    pub fn set(mutant: Option<Mutant>) {
        ALIVE.set(mutant);
    }

    pub fn lives(self) -> bool {
        ALIVE.get() == Some(self)
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static ALIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}
