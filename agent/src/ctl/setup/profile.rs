//! The profile of a new cluster: what this machine sustains, what each profile would cost, and what is taken.
//! A machine that joins takes the cluster's.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;

use super::SetupArgs;
use super::answers::Answers;
use super::store::Known;
use crate::config::{self, DEFAULT_PROFILE};
use crate::sys::suitability::{self, Suitability};

/// Fastest first.
const FASTEST_FIRST: [&str; 3] = ["fast", "standard", "compat"];
/// How long timers are watched.
const WATCH: Duration = Duration::from_secs(1);
/// The classes of failure that tell profiles apart, as people call them.
const CLASSES: [(&str, &str); 3] = [
    ("coreapp process killed", "killed"),
    ("coreapp process hung", "frozen"),
    ("machine or network lost", "machine lost"),
];

fn rank(profile: &str) -> usize {
    let known = FASTEST_FIRST.iter().position(|name| *name == profile);
    known.unwrap_or(FASTEST_FIRST.len() - 1)
}

/// Settles `[timers] profile`: the flag, what is written, the cluster's, or after measuring what a person or nobody says.
///
/// # Errors
/// When a person says what is no profile.
pub async fn settle(args: &SetupArgs, answers: &mut Answers, known: &Known) -> anyhow::Result<()> {
    let of_cluster = known
        .identity
        .as_ref()
        .map(|identity| identity.profile.as_str());
    let of_cluster = of_cluster.filter(|profile| !profile.is_empty());
    if let (Some(flag), Some(cluster)) = (&args.profile, of_cluster)
        && flag != cluster
    {
        println!(
            "the other machines of this cluster use the profile {cluster}; this one will use {flag}, as --profile says. \
             All machines should use the same"
        );
    }
    let written = answers.get("timers", "profile");
    if args.profile.is_some() || !written.is_empty() {
        return Ok(());
    }
    // Without masters and coreapps there is nothing to measure; a cluster that runs has its profile.
    if super::only_webapps(&args.roles) || known.identity.is_some() {
        let profile = of_cluster.unwrap_or(DEFAULT_PROFILE);
        answers.put("timers", "profile", Some(profile.into()));
        return Ok(());
    }
    let asked = suitability::Asked {
        watch: WATCH,
        ..suitability::Asked::default()
    };
    let found = tokio::task::spawn_blocking(move || suitability::examine(&asked))
        .await
        .context("this machine could not be measured")?;
    print!("{}", proposal(&found));
    let unasked = taken(&found);
    let said = answers.profile(found.profile, unasked)?;
    anyhow::ensure!(
        FASTEST_FIRST.contains(&said.as_str()),
        "{said:?} is no profile: the profiles are {}",
        FASTEST_FIRST.join(", ")
    );
    println!("profile {said}; another by: wa-agent setup --profile NAME --replace");
    answers.put("timers", "profile", Some(said.into()));
    Ok(())
}

/// What nobody is asked about: a second of watching is not enough for the fastest.
fn taken(found: &Suitability) -> &'static str {
    if rank(found.profile) > rank(DEFAULT_PROFILE) {
        found.profile
    } else {
        DEFAULT_PROFILE
    }
}

/// What was measured, and what each profile means: how long until a successor sends, at worst.
fn proposal(found: &Suitability) -> String {
    let mut text = format!("{}\n", found.sentence);
    let _ = writeln!(
        text,
        "until a successor sends, at worst, where the owner's  {}",
        CLASSES.map(|(_, word)| format!("{word:>14}")).concat()
    );
    for profile in FASTEST_FIRST {
        let Ok(timers) = config::timers_of(profile) else {
            continue;
        };
        let cases = config::worst_cases(&timers, true);
        let cell = |class: &str| {
            let case = cases.iter().find(|case| case.class == class);
            let shown = case.map(|case| format!("{:.2} s", case.takeover.as_secs_f64()));
            format!("{:>14}", shown.unwrap_or_default())
        };
        let mark = match rank(profile).cmp(&rank(found.profile)) {
            std::cmp::Ordering::Equal => "  <- the fastest that this machine sustains",
            std::cmp::Ordering::Less => "  (faster than this machine sustains)",
            std::cmp::Ordering::Greater => "",
        };
        let _ = writeln!(
            text,
            "  {profile:<52}{}{mark}",
            CLASSES.map(|(class, _)| cell(class)).concat()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(profile: &'static str) -> Suitability {
        Suitability {
            findings: Vec::new(),
            profile,
            sentence: "measured".into(),
        }
    }

    /// Goal: each profile is shown with its figures, the best that the machine sustains is marked, and nobody who was not
    /// asked gets one that it does not sustain, or the fastest after one second of watching.
    #[test]
    fn both_figures_are_said() {
        for (sustained, unasked) in [
            ("fast", "standard"),
            ("standard", "standard"),
            ("compat", "compat"),
        ] {
            assert_eq!(taken(&found(sustained)), unasked);
            let text = proposal(&found(sustained));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 5, "{text}");
            for (line, profile) in lines[2..].iter().zip(FASTEST_FIRST) {
                assert!(line.trim_start().starts_with(profile), "{text}");
                assert!(line.matches(" s").count() >= 3, "{text}");
                assert_eq!(line.contains("<-"), profile == sustained, "{text}");
            }
        }
    }
}
