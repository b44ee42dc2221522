//! Tests of the public API through its router.
