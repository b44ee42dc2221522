//! What `setup` knows: flags, then what was written before, then what a person at a terminal says.
//! Asks no database.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml::{Table, Value};

use super::{CREDENTIALS, FRAGMENT, SetupArgs, store::Known};
use crate::api::v1::account::is_pin;
use crate::ctl::doctor::SIMULATOR_URL;
use crate::ctl::draft::Draft;
use crate::sys::state::random_u64;

/// The simulated upstream as its unit runs it: address, number, and the secrets in the order of [`Answers::secrets`].
const SIMULATOR: [&str; 5] = [
    SIMULATOR_URL,
    "100200300",
    "simulator-token",
    "simulator-app-secret",
    "simulator-verify",
];

/// The fragment as it will be, and what is not for a file that everybody may read.
pub struct Answers {
    fragment: Table,
    /// Everything that the installed files say, the fragment included.
    written: Table,
    interactive: bool,
    /// This machine was set up for a trial, and is set up for a number now.
    trial_over: bool,
    /// Nothing was set up here before.
    new: bool,
}

impl Answers {
    /// From the flags and from what is there; asks for the number where nobody said it.
    ///
    /// # Errors
    /// When a file cannot be read, or something is missing and nobody can be asked.
    pub fn gather(args: &SetupArgs) -> anyhow::Result<Self> {
        let root = Draft::new(&args.root);
        let mut answers = Self {
            fragment: read(&root.below(Path::new(FRAGMENT)))?,
            written: written(&root)?,
            interactive: !args.no_input && std::io::stdin().is_terminal(),
            trial_over: false,
            new: false,
        };
        answers.new = answers.fragment.is_empty();
        answers.trial(args.simulator);
        let text = |value: &Option<String>| value.clone().map(Value::from);
        answers.put("cluster", "name", text(&args.cluster));
        answers.put("upstream", "phone_number_id", text(&args.phone_number_id));
        answers.put("upstream", "phone_number", text(&args.phone_number));
        answers.put("upstream", "waba_id", text(&args.waba_id));
        answers.put("upstream", "app_id", text(&args.app_id));
        answers.put("upstream", "portfolio_id", text(&args.portfolio_id));
        answers.put("upstream", "base_url", text(&args.base_url));
        answers.put("timers", "profile", text(&args.profile));
        answers.put(
            "node",
            "advertise",
            args.advertise
                .map(|address| Value::from(address.to_string())),
        );
        let ca = args
            .ssl_ca
            .as_ref()
            .map(|path| Value::from(path.display().to_string()));
        answers.put("database", "ssl_ca", ca);
        Ok(answers)
    }

    /// Answers for the simulated upstream, or takes those of an earlier trial back.
    fn trial(&mut self, on: bool) {
        let [base_url, number, ..] = SIMULATOR;
        if on {
            self.put("upstream", "base_url", Some(base_url.into()));
            self.put("upstream", "phone_number_id", Some(number.into()));
            // A trial also runs where the kernel takes no gate; `required` wants an upstream on another machine.
            self.put("cluster", "fence", Some("best-effort".into()));
        } else if self.get("upstream", "base_url") == base_url {
            self.trial_over = true;
            for (section, key) in [
                ("upstream", "base_url"),
                ("upstream", "phone_number_id"),
                ("cluster", "fence"),
            ] {
                for table in [&mut self.fragment, &mut self.written] {
                    let section = table.get_mut(section).and_then(Value::as_table_mut);
                    section.map(|section| section.remove(key));
                }
            }
        }
    }

    /// Sets a key of the fragment; `None` leaves it.
    pub fn put(&mut self, section: &str, key: &str, value: Option<Value>) {
        let Some(value) = value else { return };
        for table in [&mut self.fragment, &mut self.written] {
            let section = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Some(section) = section.as_table_mut() {
                section.insert(key.into(), value.clone());
            }
        }
    }

    /// A text that is written somewhere; empty where it is not.
    pub fn get(&self, section: &str, key: &str) -> String {
        let value = self.written.get(section).and_then(|keys| keys.get(key));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Somebody wrote this key, whatever its value is.
    pub fn has(&self, section: &str, key: &str) -> bool {
        let section = self.written.get(section);
        section.is_some_and(|keys| keys.get(key).is_some())
    }

    /// Nothing was set up here before, but perhaps a trial.
    pub fn is_new(&self) -> bool {
        self.new || self.trial_over
    }

    /// What a trial left here counts no more.
    pub fn trial_over(&self) -> bool {
        self.trial_over
    }

    /// A person sits at a terminal.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// The database URL in the files, without its password; empty for the embedded one.
    pub fn database_shown(&self) -> String {
        let urls = self
            .written
            .get("database")
            .and_then(|keys| keys.get("urls"));
        let first = urls.and_then(|urls| urls.as_array()?.first()?.as_str());
        let url = first.unwrap_or_default();
        if url.starts_with("sqlite:") {
            return String::new();
        }
        crate::config::without_password(url)
    }

    /// The fragment's text.
    ///
    /// # Errors
    /// Never in practice: the table came from texts.
    pub fn fragment(&self) -> anyhow::Result<String> {
        let text = toml::to_string(&self.fragment)
            .context("the configuration cannot be written as TOML")?;
        Ok(format!(
            "# Written by `wa-agent setup`. Change it as you like: setup keeps what it is not told.\n\n{text}"
        ))
    }

    /// The secrets that the roles of this machine need.
    ///
    /// # Errors
    /// When one is missing and nobody can be asked.
    pub fn secrets(
        &self,
        args: &SetupArgs,
        known: &Known,
        draft: &mut Draft,
    ) -> anyhow::Result<()> {
        let mut missing = Vec::new();
        let simulated = SIMULATOR[2..]
            .iter()
            .map(Some)
            .chain(std::iter::repeat(None));
        for ((name, file, question, flag, need), simulated) in
            wanted(args).into_iter().zip(simulated)
        {
            let path = Path::new(CREDENTIALS).join(name);
            if args.simulator
                && let Some(word) = simulated
            {
                draft.secret(path, *word);
                continue;
            }
            let there = std::fs::read_to_string(draft.below(&path)).ok();
            // What an earlier trial left is no secret of anybody's.
            let there = there.filter(|text| !self.trial_over || Some(&text.trim()) != simulated);
            if let Some(file) = file {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                anyhow::ensure!(!text.trim().is_empty(), "{} is empty", file.display());
                fits(name, text.trim())?;
                draft.secret(path, text.trim());
            } else if let Some(there) = there {
                draft.secret(path, there.trim_end());
            } else if let Need::May(without) = need
                && self.interactive
                && !args.simulator
            {
                let asked = format!("{question} (not shown; only Enter: {without}): ");
                let said = rpassword::prompt_password(asked)?;
                if !said.trim().is_empty() {
                    fits(name, said.trim())?;
                    draft.secret(path, said.trim());
                }
            } else if need != Need::Must {
                continue;
            } else if name == "verify-token" && known.identity.is_none() {
                // Any word will do; the dashboard is told the same.
                draft.secret(path, format!("{:016x}", random_u64()));
            } else if self.interactive {
                let said = rpassword::prompt_password(format!("{question} (not shown): "))?;
                anyhow::ensure!(!said.trim().is_empty(), "nothing was typed for {name}");
                draft.secret(path, said.trim());
            } else {
                missing.push((name, flag));
            }
        }
        named(&missing, known)
    }

    /// The profile that a person wants; where nobody sits, `unasked`.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn profile(&self, proposed: &str, unasked: &str) -> anyhow::Result<String> {
        if !self.interactive {
            return Ok(unasked.to_owned());
        }
        let said = line(&format!("Profile [{proposed}]: "))?;
        Ok(if said.is_empty() {
            proposed.to_owned()
        } else {
            said
        })
    }

    /// The number to send from, where coreapps run and neither the files nor the database know it.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub fn number(&mut self, args: &SetupArgs) -> anyhow::Result<()> {
        let sends = args.roles.iter().any(|role| role == "coreapp");
        if sends && self.get("upstream", "phone_number_id").is_empty() {
            let said = self.ask(
                "Phone number ID, as the app dashboard shows it",
                "--phone-number-id ID",
            )?;
            self.put("upstream", "phone_number_id", Some(said.into()));
        }
        Ok(())
    }

    /// What belongs to the number and may be left out: a person is asked where nobody said it.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn account(&mut self, args: &SetupArgs) -> anyhow::Result<()> {
        let calls = args.roles.iter().any(|role| role != "master");
        match self.interactive && calls && !args.simulator {
            true => self.account_by(line),
            false => Ok(()),
        }
    }

    fn account_by(
        &mut self,
        mut asked: impl FnMut(&str) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        for (key, question, without) in ACCOUNT {
            if self.get("upstream", key).is_empty() {
                let said = asked(&format!("{question} (only Enter: {without}): "))?;
                let said = (!said.is_empty()).then(|| Value::from(said));
                self.put("upstream", key, said);
            }
        }
        Ok(())
    }

    /// The flags by which another machine gets the same.
    pub fn account_flags(&self) -> String {
        let flag = |(key, ..): &(&str, &str, &str)| {
            let value = self.get("upstream", key);
            (!value.is_empty()).then(|| format!(" --{} {value}", key.replace('_', "-")))
        };
        ACCOUNT.iter().filter_map(flag).collect()
    }

    /// One line from a person.
    ///
    /// # Errors
    /// When nobody sits there: the flag is named.
    fn ask(&self, question: &str, flag: &str) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.interactive,
            "nobody can be asked for: {question}; add {flag}"
        );
        let said = line(&format!("{question}: "))?;
        anyhow::ensure!(!said.is_empty(), "nothing was typed; or add {flag}");
        Ok(said)
    }
}

/// What belongs to the number beside it: the key, what a person is asked, and what is not possible without it.
const ACCOUNT: [(&str, &str, &str); 3] = [
    (
        "waba_id",
        "ID of the WhatsApp Business Account",
        "no list of templates, and doctor does not see whether events come here",
    ),
    (
        "app_id",
        "ID of the app that the access token belongs to",
        "the photo of the profile cannot be changed",
    ),
    (
        "portfolio_id",
        "ID of the business portfolio of the account",
        "news of other accounts are told as if they were this one's",
    ),
];

/// Whether this machine needs a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    /// A person is asked, and may leave it out; then this is so.
    May(&'static str),
    No,
}

impl Need {
    fn of(runs: bool, need: Self) -> Self {
        if runs { need } else { Self::No }
    }
}

/// A pin of another form would be refused by the coreapp that starts with it.
fn fits(name: &str, secret: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        name != "upstream-pin" || is_pin(secret),
        "the pin of the number is six digits, and what was given is not"
    );
    Ok(())
}

/// Its file's name, the flag's value, what a person is asked, the flag, and whether this machine needs it.
type Secret<'a> = (&'a str, &'a Option<PathBuf>, &'a str, &'a str, Need);

fn wanted(args: &SetupArgs) -> [Secret<'_>; 5] {
    let runs = |role: &str| args.roles.iter().any(|r| r == role);
    let without_pin = "the pin comes with the call that registers the number";
    [
        (
            "upstream-token",
            &args.token_file,
            "Access token of the system user",
            "--token-file FILE",
            Need::of(runs("coreapp"), Need::Must),
        ),
        (
            "app-secret",
            &args.app_secret_file,
            "App secret",
            "--app-secret-file FILE",
            Need::of(runs("webapp"), Need::Must),
        ),
        (
            "verify-token",
            &args.verify_token_file,
            "Verify token of the webhook",
            "--verify-token-file FILE",
            Need::of(runs("webapp"), Need::Must),
        ),
        (
            "api-key",
            &args.api_key_file,
            "API key",
            "--api-key-file FILE",
            Need::No,
        ),
        (
            "upstream-pin",
            &args.pin_file,
            "Pin of the number, six digits",
            "--pin-file FILE",
            Need::of(runs("coreapp"), Need::May(without_pin)),
        ),
    ]
}

/// What is missing, and how it gets here.
fn named(missing: &[(&str, &str)], known: &Known) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if known.identity.is_some() {
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("{}", known.bring(&names.join(",")));
    }
    let flags: Vec<&str> = missing.iter().map(|(_, flag)| *flag).collect();
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    anyhow::bail!(
        "missing: {}. Type them at a terminal, add {}, or write each into {CREDENTIALS}/ (mode 0600)",
        names.join(", "),
        flags.join(" ")
    )
}

fn line(question: &str) -> anyhow::Result<String> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut said = String::new();
    std::io::stdin().lock().read_line(&mut said)?;
    Ok(said.trim().to_owned())
}

/// A person agrees to replace files; where nobody sits, the answer is no.
pub fn agree(args: &SetupArgs, files: &[PathBuf]) -> anyhow::Result<bool> {
    if args.no_input || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    for file in files {
        println!("{} is there and would be replaced", file.display());
    }
    Ok(line("Type yes to replace: ")? == "yes")
}

fn read(path: &Path) -> anyhow::Result<Table> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| {
            format!(
                "{} cannot be read as TOML; correct or remove it",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The main file and the fragments laid over each other.
fn written(root: &Draft) -> anyhow::Result<Table> {
    let mut all = read(&root.below(Path::new("/etc/wa-agent/wa-agent.toml")))?;
    let folder = root.below(Path::new("/etc/wa-agent/conf.d"));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    for path in paths {
        for (section, keys) in read(&path)? {
            match (all.get_mut(&section), keys) {
                (Some(Value::Table(old)), Value::Table(new)) => old.extend(new),
                (_, keys) => {
                    all.insert(section, keys);
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Answers {
        Answers {
            fragment: Table::new(),
            written: Table::new(),
            interactive: true,
            trial_over: false,
            new: true,
        }
    }

    /// Goal: a person may leave out what belongs to the number, is told what is not possible then, and is not asked again for what
    /// is known. Method: answers by a table.
    #[test]
    fn what_belongs_to_the_number_may_be_left_out() {
        let mut answers = nothing();
        let mut asked = Vec::new();
        let said = answers.account_by(|question| {
            asked.push(question.to_owned());
            Ok(if question.contains("app that") {
                "33"
            } else {
                ""
            }
            .to_owned())
        });
        said.expect("asked");
        assert_eq!(asked.len(), 3);
        assert!(
            asked.iter().all(|q| q.contains("only Enter: ")),
            "{asked:?}"
        );
        assert_eq!(answers.account_flags(), " --app-id 33");
        let text = answers.fragment().expect("plain data");
        assert!(
            text.contains("app_id = \"33\"") && !text.contains("waba_id"),
            "{text}"
        );
        let mut again = 0;
        let said = answers.account_by(|_| {
            again += 1;
            Ok(String::new())
        });
        said.expect("asked");
        assert_eq!(again, 2, "one is known");
    }

    #[test]
    fn a_pin_is_six_digits() {
        assert!(fits("upstream-pin", "123456").is_ok());
        assert!(fits("upstream-pin", "12345").is_err());
        assert!(fits("app-secret", "12345").is_ok());
    }
}
