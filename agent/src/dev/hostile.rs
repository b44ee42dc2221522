//! Servers whose defaults are not ours: each variable that changes what our statements mean, with a value that does.
//! For drills and tests; breaks nothing itself.

use std::path::Path;

/// What both families know: name, and a value that changes something.
const BOTH: &[(&str, &str)] = &[
    ("autocommit", "0"),
    ("completion_type", "2"),
    ("sql_select_limit", "0"),
    ("max_join_size", "1"),
    ("sql_big_selects", "0"),
    ("sql_safe_updates", "1"),
    ("sql_auto_is_null", "1"),
    ("foreign_key_checks", "0"),
    ("unique_checks", "0"),
    ("time_zone", "'-11:00'"),
    ("character_set_client", "'latin1'"),
    ("character_set_connection", "'ucs2'"),
    ("character_set_results", "'ucs2'"),
    ("collation_connection", "'ucs2_general_ci'"),
    ("group_concat_max_len", "4"),
    ("lock_wait_timeout", "3600"),
    ("innodb_lock_wait_timeout", "3600"),
    ("wait_timeout", "20"),
    ("net_write_timeout", "3600"),
    ("default_storage_engine", "'MyISAM'"),
    ("div_precision_increment", "0"),
];

const MARIADB: &[(&str, &str)] = &[
    (
        "sql_mode",
        "'ORACLE,NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL,SIMULTANEOUS_ASSIGNMENT,PAD_CHAR_TO_FULL_LENGTH,\
         NO_AUTO_VALUE_ON_ZERO,HIGH_NOT_PRECEDENCE,REAL_AS_FLOAT,ONLY_FULL_GROUP_BY,NO_UNSIGNED_SUBTRACTION'",
    ),
    ("sql_mode", "''"),
    ("max_sort_length", "64"),
    ("tx_isolation", "'SERIALIZABLE'"),
    ("tx_isolation", "'READ-UNCOMMITTED'"),
    ("tx_read_only", "1"),
    ("innodb_snapshot_isolation", "1"),
    (
        "old_mode",
        "'NO_DUP_KEY_WARNINGS_WITH_IGNORE,ZERO_DATE_TIME_CAST'",
    ),
    ("alter_algorithm", "'INSTANT'"),
    ("query_cache_type", "1"),
    ("enforce_storage_engine", "'MyISAM'"),
    ("max_statement_time", "0.5"),
    ("idle_transaction_timeout", "0"),
];

const MYSQL: &[(&str, &str)] = &[
    (
        "sql_mode",
        "'ANSI,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION,\
         PAD_CHAR_TO_FULL_LENGTH'",
    ),
    ("sql_mode", "''"),
    ("max_sort_length", "4"),
    ("transaction_isolation", "'SERIALIZABLE'"),
    ("transaction_isolation", "'READ-UNCOMMITTED'"),
    ("transaction_read_only", "1"),
    ("max_execution_time", "500"),
];

/// What only the command line of MariaDB takes.
pub const MORE: [&str; 3] = [
    // What clients say of their character set is not heard.
    "--skip-character-set-client-handshake",
    "--query-cache-type=1",
    "--query-cache-size=1M",
];

/// What a server may do to each session of an ordinary user before we speak.
pub const INIT_CONNECT: &str = "SET autocommit=0, completion_type=2; START TRANSACTION READ ONLY";

/// Each alone.
pub fn variables(mysql: bool) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    BOTH.iter().chain(if mysql { MYSQL } else { MARIADB })
}

/// The statements that make a server hostile in everything, one a line, for `--init-file`. The first value of a variable that
/// has several is left to the last.
pub fn statements(mysql: bool) -> String {
    let all: Vec<_> = variables(mysql).collect();
    let lines = all.iter().rev();
    lines
        .map(|(name, value)| format!("SET GLOBAL {name}={value};\n"))
        .collect()
}

/// Writes them there.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, mysql: bool) -> std::io::Result<()> {
    std::fs::write(file, statements(mysql))
}

/// What such a server is started with.
pub fn arguments(file: &Path, mysql: bool) -> Vec<String> {
    let mut all = vec![format!("--init-file={}", file.display())];
    if !mysql {
        all.extend(MORE.map(String::from));
    }
    all
}
