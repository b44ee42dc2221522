//! Verbs that change this machine or this installation without a master, in the audit: one line for each, once it has ended. It is in the
//! journal always, and in the table when the database answers soon. A verb never waits for its line before it acts, and never fails for it.
//! Carries none of them out.

use std::path::Path;
use std::time::Duration;

use wa_core::id::Role;

use super::doctor::store_file;
use super::reach::{config_file, who};
use crate::cli::Local;
use crate::config::{self, DatabaseSettings, Settings};
use crate::db::Db;
use crate::exit::Exit;
use crate::log;
use crate::member::audit::Entry;

/// For the whole of storing a line, after the verb has ended.
const STORE_WITHIN: Duration = Duration::from_secs(2);

/// Where the configuration of a verb is, for the table of its line.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// The one named, else the installed one.
    Config(Option<&'a Path>),
    /// Files below another folder: no database of this machine has to do with it.
    Root(&'a Path),
}

impl Of<'_> {
    fn settings(self) -> Option<Settings> {
        match self {
            Self::Config(file) => settings(file),
            Self::Root(root) => (root == Path::new("/")).then(|| settings(None)).flatten(),
        }
    }
}

/// Runs a verb, then writes its line. No secret may be among the words.
///
/// # Errors
/// Those of the verb.
pub fn audited(
    of: Of<'_>,
    words: &str,
    verb: impl FnOnce() -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let done = verb();
    let entry = entry(&who(), words, &done);
    log::to_journal(|| entry.journal());
    if let Some(settings) = of.settings() {
        store(&settings, entry);
    }
    done
}

fn entry(who: &str, words: &str, done: &anyhow::Result<Exit>) -> Entry {
    let machine = who.rsplit_once('@').map_or("-", |(_, machine)| machine);
    let outcome = match done {
        Ok(Exit::Ok) => "done".to_owned(),
        Ok(exit) => format!("ended with the exit code {}", exit.code()),
        Err(error) => format!("not done: {error:#}"),
    };
    Entry::new(
        who,
        machine,
        &format!("{words} (on this machine)"),
        &outcome,
    )
}

/// The words of a fence by hand.
pub fn fence_words(which: &Local, on: bool) -> String {
    let verb = if on { "fence" } else { "unfence" };
    match (which.instance, &which.node) {
        (Some(instance), _) => format!("{verb} coreapp {instance}"),
        (None, Some(node)) => format!("{verb} {node}"),
        (None, None) => verb.to_owned(),
    }
}

/// What this machine is configured with, as far as this user may read it.
fn settings(config: Option<&Path>) -> Option<Settings> {
    let file = config_file(config)?;
    let loaded = [Role::Host, Role::Master, Role::Webapp]
        .into_iter()
        .find_map(|role| config::load(role, 1, Some(&file)).ok());
    loaded.map(|loaded| loaded.settings)
}

/// Stores the line if the database takes it soon. Makes no database and no table.
fn store(settings: &Settings, entry: Entry) {
    // The file of an embedded database that was just removed is not to come again.
    let gone = store_file(settings).is_some_and(|file| !file.exists());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (false, Ok(runtime)) = (gone, runtime) else {
        return;
    };
    let database = DatabaseSettings {
        connect_timeout: STORE_WITHIN * 9 / 10,
        ..settings.database.clone()
    };
    let line = entry.line(settings.node.as_str(), Duration::ZERO);
    let store = async {
        let db = Db::connect(&database, 1).await?;
        db.store_audit(&[line]).await
    };
    // The clock of a deadline needs the runtime.
    let stored = runtime.block_on(async { tokio::time::timeout(STORE_WITHIN, store).await });
    if !matches!(stored, Ok(Ok(()))) {
        tracing::debug!(
            "the line of this verb is in the journal only: the database did not take it in time"
        );
    }
    // A connection that hangs is not waited for.
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the line of a local verb says who, where, what, and how it ended. Method: each end.
    #[test]
    fn a_local_verb_says_how_it_ended() {
        let of = |done| entry("ann@core1.example", "fence coreapp 1", &done);
        let line = |outcome: &str| {
            let words = "fence coreapp 1 (on this machine)";
            Entry::new("ann@core1.example", "core1.example", words, outcome)
        };
        assert_eq!(of(Ok(Exit::Ok)), line("done"));
        let said = of(Ok(Exit::Failure)).outcome;
        assert!(said.starts_with("ended with the exit code "), "{said}");
        let error = anyhow::anyhow!("no gate").context("nothing was done");
        assert_eq!(of(Err(error)), line("not done: nothing was done: no gate"));
    }

    /// Goal: a verb ends soon, and as it would without its line, where the database does not answer. Method: an address that takes
    /// connections and says nothing.
    #[test]
    fn a_database_that_does_not_answer_holds_no_verb_up() {
        let place = tempfile::tempdir().expect("a directory");
        let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = mute.local_addr().expect("bound").port();
        let url = format!("mysql://wa:secret@127.0.0.1:{port}/wa");
        let config = configured(place.path(), &url);
        let began = crate::sys::clock::now();
        let done = audited(Of::Config(Some(&config)), "fence coreapp 1", || {
            Ok(Exit::Failure)
        });
        assert_eq!(done.expect("as the verb says"), Exit::Failure);
        let took = crate::sys::clock::now().since(began);
        assert!(took < STORE_WITHIN * 2, "{took:?}");
    }

    /// Goal: the line is in the table where the database answers, and no database is made for it. Method: an embedded one, before and after
    /// it is there.
    #[test]
    fn a_line_is_stored_where_the_database_is() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("wa.db");
        let config = configured(place.path(), &format!("sqlite://{}", file.display()));
        let fence = || {
            audited(Of::Config(Some(&config)), "fence coreapp 1", || {
                Ok(Exit::Ok)
            })
        };
        assert_eq!(fence().expect("done"), Exit::Ok);
        assert!(!file.exists());
        let settings = settings(Some(&config)).expect("valid");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let db = runtime.block_on(async {
            let db = Db::connect(&settings.database, 1).await.expect("opened");
            db.ensure_lease_table().await.expect("made");
            db.migrate().await.expect("made");
            db
        });
        assert_eq!(fence().expect("done"), Exit::Ok);
        let lines = runtime.block_on(db.audit(None, 10)).expect("read");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].what, "fence coreapp 1 (on this machine)");
        assert_eq!(lines[0].outcome, "done");
    }

    fn configured(place: &Path, url: &str) -> std::path::PathBuf {
        // Secrets lie in it.
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(place, closed).expect("closed");
        let file = |name: &str, text: &str| {
            let path = place.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let (key, word) = (file("key", &"5a".repeat(32)), file("word", "w"));
        file(
            "wa-agent.toml",
            &format!(
                "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {place:?}\n[database]\nurls = [{url:?}]\n\
                 [upstream]\nphone_number_id = \"1\"\ntoken_file = {word:?}\napp_secret_file = {word:?}\nverify_token_file = {word:?}\n"
            ),
        )
    }
}
