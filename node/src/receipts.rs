//! The receipts of a limiter's latest admissions, by number, for refunds.

use std::cell::RefCell;

use tallymesh::{Limiter, Receipt};

/// How many receipts are kept; see `Limiter.refund` in `lib/limiter.ts`.
const RECEIPTS_MAX: u64 = 65_536;

self_cell::self_cell! {
    /// A limiter, together with receipts that borrow from it.
    pub struct WithReceipts {
        owner: Limiter,
        #[not_covariant]
        dependent: Receipts,
    }
}

/// A ring: the receipt of number `n` is at place `n % RECEIPTS_MAX`, until a later one takes that place.
pub struct Receipts<'a> {
    ring: RefCell<Ring<'a>>,
}

#[derive(Default)]
struct Ring<'a> {
    next: u64,
    places: Vec<Option<(u64, Receipt<'a>)>>,
}

impl WithReceipts {
    pub fn of(limiter: Limiter) -> WithReceipts {
        WithReceipts::new(limiter, |_| Receipts { ring: RefCell::default() })
    }
}

impl<'a> Receipts<'a> {
    /// Keeps a receipt, and returns its number.
    pub fn keep(&self, receipt: Receipt<'a>) -> u64 {
        let ring = &mut *self.ring.borrow_mut();
        let number = ring.next;
        ring.next += 1;
        let place = (number % RECEIPTS_MAX) as usize;
        let kept = Some((number, receipt));
        match ring.places.get_mut(place) {
            Some(held) => *held = kept,
            None => ring.places.push(kept),
        }
        number
    }

    /// Takes a receipt out, if it is still there.
    pub fn take(&self, number: u64) -> Option<Receipt<'a>> {
        let ring = &mut *self.ring.borrow_mut();
        let held = ring.places.get_mut((number % RECEIPTS_MAX) as usize)?;
        held.take_if(|(kept, _)| *kept == number).map(|(_, receipt)| receipt)
    }
}
