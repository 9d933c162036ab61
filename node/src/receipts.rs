//! The receipts of a limiter's latest admissions in one thread, by number, for refunds.
//!
//! JavaScript sees a receipt as the text `life-handle-number`. Both halves count the admissions, so that the text is made there,
//! when it is first read, and an admission need not cross twice.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use napi::{Error, Result};
use tallymesh::Receipt;

use crate::error::refund;
use crate::limiters::is_open;

/// How many receipts are kept; see `Limiter.refund` in `lib/limiter.ts`.
const RECEIPTS_MAX: u64 = 65_536;

/// The number of the next handle: of a limiter in a thread.
static NEXT_HANDLE: AtomicU32 = AtomicU32::new(1);

/// A ring: the receipt of number `n` is at index `n % RECEIPTS_MAX`, until a later one takes that index.
pub struct Receipts {
    life: u64,
    handle: u32,
    ring: RefCell<Ring>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    /// `None` once it was used.
    receipts: Vec<Option<Receipt>>,
}

/// What the text of a receipt says.
struct Name {
    life: u64,
    handle: u32,
    number: u64,
}

impl Receipts {
    /// None yet, of this life of a limiter.
    pub fn new(life: u64) -> Receipts {
        let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        Receipts { life, handle, ring: RefCell::default() }
    }

    /// What the texts of all these receipts begin with.
    pub fn prefix(&self) -> String {
        format!("{:016x}-{}", self.life, self.handle)
    }

    /// Keeps a receipt, under the next number.
    pub fn keep(&self, receipt: Receipt) {
        let ring = &mut *self.ring.borrow_mut();
        let index = (ring.next % RECEIPTS_MAX) as usize;
        ring.next += 1;
        match ring.receipts.get_mut(index) {
            Some(held) => *held = Some(receipt),
            None => ring.receipts.push(Some(receipt)),
        }
    }

    /// Takes a receipt out by its text.
    pub fn take(&self, text: &str) -> Result<Receipt> {
        let name = Name::read(text).ok_or_else(unknown)?;
        if name.life != self.life {
            return Err(match is_open(name.life) {
                true => {
                    refund("OTHER_LIMITER", "the receipt is of another limiter: refund it there")
                }
                false => refund(
                    "OTHER_LIFE",
                    "the receipt is of a limiter that is not open here, or of this one before it was opened again",
                ),
            });
        }
        if name.handle != self.handle {
            return Err(match (1..NEXT_HANDLE.load(Ordering::Relaxed)).contains(&name.handle) {
                true => refund(
                    "OTHER_THREAD",
                    "the receipt is of this limiter in another thread: refund it in the thread that acquired it",
                ),
                false => unknown(),
            });
        }
        let ring = &mut *self.ring.borrow_mut();
        if name.number >= ring.next {
            return Err(unknown());
        }
        if ring.next - name.number > RECEIPTS_MAX {
            let message = "the receipt is too old: the latest 65536 of each thread are kept";
            return Err(refund("EXPIRED", message));
        }
        let held = ring.receipts.get_mut((name.number % RECEIPTS_MAX) as usize);
        let used = || refund("USED", "the receipt was used before: each is good for one refund");
        held.and_then(Option::take).ok_or_else(used)
    }
}

impl Name {
    /// Reads the text of a receipt; `None` if it is none. There is one text only for each.
    fn read(text: &str) -> Option<Name> {
        let mut parts = text.split('-');
        let (life, handle, number) = (parts.next()?, parts.next()?, parts.next()?);
        let life = u64::from_str_radix(life, 16).ok()?;
        let name = Name { life, handle: handle.parse().ok()?, number: number.parse().ok()? };
        let written = format!("{:016x}-{}-{}", name.life, name.handle, name.number);
        (written == text).then_some(name)
    }
}

fn unknown() -> Error {
    refund("UNKNOWN", "no admission has this receipt: give the `receipt` of a decision, unchanged")
}
