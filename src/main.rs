//! The `tallymesh` program.

fn main() {}
