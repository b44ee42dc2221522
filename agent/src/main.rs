//! The wa-agent binary.

fn main() {}
