//! `wa-agent settings`: the application settings as they are stored.
//! Changes none: the API does, with the rules of each field.

use serde_json::Value;

use super::view::View;
use crate::cli::Reach;
use crate::exit::Exit;

/// Reads and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let said = match View::find(reach.config.as_deref()).await?.settings().await {
            Ok(said) => said,
            Err(nothing) => return Ok(nothing.told()),
        };
        if reach.json {
            println!("{said}");
        } else {
            let mut lines = Vec::new();
            flatten("", &said["application"], &mut lines);
            println!("application settings, version {}", said["version"]);
            for (key, value) in lines {
                println!("  {key:<36} {value}");
            }
        }
        Ok(Exit::Ok)
    })
}

/// `webhooks.message.sent` and the like, one a line.
fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, lines);
            }
        }
        other => lines.push((prefix.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_line() {
        let mut lines = Vec::new();
        let value = serde_json::json!({"a": {"b": true, "c": ["x"]}, "d": 5});
        flatten("", &value, &mut lines);
        let lines: Vec<String> = lines.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(lines, ["a.b=true", "a.c=[\"x\"]", "d=5"]);
    }
}
