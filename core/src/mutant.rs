//! Deliberate mistakes, to find out whether the simulator's checker would notice them.
//!
//! They are compiled in with the feature `mutants` only, and each is active only in a thread that has set it. Everywhere
//! else `mutant!` is plain `false`. They are all written the same way: `if mutant!(Name) { the mistake }`.

/// Whether the named mistake is to be made here.
macro_rules! mutant {
    ($mutant:ident) => {{
        #[cfg(feature = "mutants")]
        let is_active = $crate::mutant::Mutant::is_active($crate::mutant::Mutant::$mutant);
        #[cfg(not(feature = "mutants"))]
        let is_active = false;
        is_active
    }};
}
pub(crate) use mutant;

/// A classic mistake of replicated counters.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A restart goes on under the replica id of the incarnation before, although that may have lost increments.
    ReplicaIdReused,
    /// An urgent push moves the watermark over what was not sent.
    WatermarkMovedByPush,
    /// Each part of a chain of deltas moves the watermark, not only the last.
    WatermarkMovedByPart,
    /// A changed cell counts as sent once it leaves, whatever changed since it got its version.
    DirtyClearedAtSend,
    /// A counter that is reset zeroes the own cell in place.
    OwnCellZeroed,
    /// An update of a counter that expired long ago brings it back.
    ExpiredRecreated,
    /// Cells that cannot be true are merged.
    ForgedCellMerged,
    /// The wall clock is believed when it steps back.
    ClockStepsBack,
    /// A clock that shows a new time only every tick is taken for exact.
    CoarseTakenForExact,
    /// A subtraction takes more than there is.
    TakenBelowZero,
    /// A cell of a limit's counter that holds less than nothing is believed.
    CellBelowZeroMerged,
    /// The marks of a counter are merged as one tuple, of which the greater wins.
    MarksMergedAsOne,
    /// A merge cuts the last use of a session to the own clock's time.
    SessionCutAtMerge,
    /// A checkpoint writes the watermarks before the cells that they vouch for.
    WatermarkBeforeCells,
    /// A peer is believed at once that it has everything, although by its clock, which is far ahead, much has ended.
    WatermarkOfFutureBelieved,
    /// A node whose clock is lowered goes on to vouch for what it dropped by the time that it acted on before.
    LoweredNodeVouches,
    /// A replica that has ended is remembered for ever.
    ReplicaNeverForgotten,
    /// A closed table counts on.
    CountsWhenClosed,
    /// A node that stops says goodbye before a peer has what it counted last.
    GoodbyeFirst,
    /// In a large cluster, news goes to peers drawn by chance only.
    NewsLeftToChance,
    /// A denial for want of this side's share says that the limit is reached.
    CutOffUnnamed,
    /// Each side of a cut may admit all that was left.
    SideTakesAll,
    /// Silent members are never suspected.
    CutNeverNoticed,
    /// A version is believed however far it is.
    VersionUnbounded,
    /// A generation is believed however far it is.
    GenerationUnbounded,
    /// A replica leaves it at that when a peer holds of it what it never gave out.
    OwnWordWithheld,
    /// A third one is believed about a replica that is connected.
    HearsayBelieved,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 27] = [
        Mutant::ReplicaIdReused,
        Mutant::WatermarkMovedByPush,
        Mutant::WatermarkMovedByPart,
        Mutant::DirtyClearedAtSend,
        Mutant::OwnCellZeroed,
        Mutant::ExpiredRecreated,
        Mutant::ForgedCellMerged,
        Mutant::ClockStepsBack,
        Mutant::CoarseTakenForExact,
        Mutant::TakenBelowZero,
        Mutant::CellBelowZeroMerged,
        Mutant::MarksMergedAsOne,
        Mutant::SessionCutAtMerge,
        Mutant::WatermarkBeforeCells,
        Mutant::WatermarkOfFutureBelieved,
        Mutant::LoweredNodeVouches,
        Mutant::ReplicaNeverForgotten,
        Mutant::CountsWhenClosed,
        Mutant::GoodbyeFirst,
        Mutant::NewsLeftToChance,
        Mutant::CutOffUnnamed,
        Mutant::SideTakesAll,
        Mutant::CutNeverNoticed,
        Mutant::VersionUnbounded,
        Mutant::GenerationUnbounded,
        Mutant::OwnWordWithheld,
        Mutant::HearsayBelieved,
    ];

    /// Makes a mutant active in this thread, in the place of any other.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// Whether this one is active in this thread.
    pub fn is_active(self) -> bool {
        ACTIVE.get() == Some(self)
    }
}

#[cfg(feature = "mutants")]
crate::sync::thread_local! {
    static ACTIVE: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}
