//! Role host: comes with the packages. In development `dev/host.rs` plays its part.
