//! Seeded simulator of the whole protocol: empty until it is written; the cluster in `agent/core/tests` stands in.
