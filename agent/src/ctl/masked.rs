//! Values that stand in lines about units, and that this program does not know: `Environment=` and `SetCredential=` of drop-ins.
//! Secrets that this machine has in its own files are masked by `debug.rs`.

/// Names whose values are secrets, whoever's they are.
const SECRET: &[&str] = &["PASSWORD", "KEY", "TOKEN", "SECRET"];
/// What a value is replaced by.
const STARS: &str = "***";

/// The value of this variable may be shown: it is one of ours, and no secret.
fn shown(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let known = upper.starts_with("WA_") || upper.starts_with("RUST_") || upper == "LC_ALL";
    // Where keys lie, and not what they are.
    let place = upper == "WA_AGENT_KEYS";
    known && (place || !SECRET.iter().any(|word| upper.contains(word)))
}

/// One assignment of `Environment=`; what is no assignment is not shown.
fn assignment(word: &str) -> String {
    match word.split_once('=') {
        Some((name, value)) if shown(name) => format!("{name}={value}"),
        Some((name, _)) => format!("{name}={STARS}"),
        None => STARS.to_owned(),
    }
}

/// What stands behind `Environment=`. With quotes or escapes, where one value ends is the service manager's business: nothing of it
/// is shown.
fn environment(values: &str) -> String {
    if values.contains(['"', '\'', '\\']) {
        return STARS.to_owned();
    }
    let words: Vec<String> = values.split_whitespace().map(assignment).collect();
    words.join(" ")
}

/// A credential that a unit sets: its name. Empty ones say that it is optional, and stay.
fn credential(value: &str) -> String {
    match value.split_once(':') {
        Some((name, "\\n" | "")) => format!("{name}:\\n"),
        Some((name, _)) => format!("{name}:{STARS}"),
        None => STARS.to_owned(),
    }
}

/// The same text, as `systemctl show` and `systemctl cat` print it, without values that it is not made to show.
pub fn unit_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let hidden = goes_on;
        let directive = line.trim_start().split_once('=');
        let masked = match directive {
            _ if hidden => STARS.to_owned(),
            Some(("Environment", values)) => format!("Environment={}", environment(values)),
            Some((name @ ("SetCredential" | "SetCredentialEncrypted"), value)) => {
                format!("{name}={}", credential(value))
            }
            Some(_) | None => line.to_owned(),
        };
        let ours = hidden
            || matches!(
                directive,
                Some((
                    "Environment" | "SetCredential" | "SetCredentialEncrypted",
                    _
                ))
            );
        goes_on = ours && line.ends_with('\\');
        out.push_str(&masked);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no value that this program does not know leaves a machine, however it is written; what helps stays. Method: lines as systemctl
    /// prints them, with planted secrets.
    #[test]
    fn values_of_others_are_not_shown() {
        let text = "Id=wa-webapp@1.service\n\
             Environment=WA_AGENT_KEYS=/run/wa-agent-keys WA_LOG=debug WA_DB_PASSWORD=planted WA_API_KEY=planted HTTP_PROXY=http://u:planted@h\n\
             Environment=\"AWS=planted planted\" 'X=planted'\n\
             Environment=MY_TOKEN=planted \\\n  more=planted \\\n  planted\n\
             SetCredential=cluster-key:\\n\n\
             SetCredential=api-key:planted\n\
             SetCredentialEncrypted=api-key: \\\n        planted\n\
             ExecStart=/usr/bin/wa-agent webapp --instance %i\n";
        let masked = unit_lines(text);
        assert!(!masked.contains("planted"), "{masked}");
        for kept in [
            "WA_AGENT_KEYS=/run/wa-agent-keys WA_LOG=debug WA_DB_PASSWORD=*** WA_API_KEY=*** HTTP_PROXY=***",
            "SetCredential=cluster-key:\\n\n",
            "SetCredential=api-key:***\n",
            "ExecStart=/usr/bin/wa-agent webapp --instance %i\n",
        ] {
            assert!(masked.contains(kept), "{kept} in {masked}");
        }
    }
}
