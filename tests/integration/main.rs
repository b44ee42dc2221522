//! The integration tests: real databases, the real binary, ports of their own. One binary, a module per subject.
//! A test that cannot run here prints one line that starts with `SKIPPED:`.

mod debug;
mod dev;
mod door;
mod drill;
mod flood;
mod galera;
mod mariadb;
mod media;
mod mount;
mod mysql;
mod mysql_root;
mod nft;
mod reset;
mod setup;
mod setup_account;
mod setup_public;
mod start;
mod store;
mod store_backup;
mod store_body;
mod store_clock;
mod store_collection;
mod store_customer;
mod store_disk;
mod store_event;
mod store_faults;
mod store_find;
mod store_form;
mod store_frozen;
mod store_lease;
mod store_left;
mod store_message;
mod store_message_id;
#[cfg(feature = "mutants")]
mod store_mutants;
mod store_reach;
mod store_remote;
mod store_reply;
mod store_rows;
mod store_schema;
mod store_session;
mod store_setting;
mod store_template;
mod store_tls;
mod store_together;
mod store_token;
mod store_webhook;
#[cfg(feature = "watch")]
mod watch;

/// Says why a test did not run, past the capture of the test runner, so that it can be counted.
pub fn skipped(what: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}
