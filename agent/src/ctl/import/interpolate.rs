//! Variables in the text of a compose file: `$NAME`, `${NAME}`, and `:-`, `-`, `:?`, `?`, `:+`, `+`, whose words may hold
//! variables again. Knows no values.

use std::collections::BTreeSet;

/// Words within words. Nobody writes more by hand.
const DEPTH_MAX: usize = 8;

/// The text with its variables in place, and the names that are set nowhere and have no default: those stay as they are
/// written. `$$` is a dollar; lines of comment are left alone.
///
/// # Errors
/// Braces that are not closed in their line, or nest deeper than eight: the variable is named.
pub fn fill_in(
    text: &str,
    value: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<(String, BTreeSet<String>)> {
    let mut filler = Filler {
        value,
        unset: BTreeSet::new(),
    };
    let mut filled = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('#') {
            filled.push_str(line);
        } else {
            filled.push_str(&filler.fill(line, 0)?);
        }
    }
    Ok((filled, filler.unset))
}

struct Filler<'a> {
    value: &'a dyn Fn(&str) -> Option<String>,
    unset: BTreeSet<String>,
}

impl Filler<'_> {
    fn fill(&mut self, text: &str, depth: usize) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let name = name_of(after);
            if let Some(after) = after.strip_prefix('$') {
                filled.push('$');
                rest = after;
            } else if let Some(word) = after.strip_prefix('{') {
                let word = closed(word)?;
                let written = &rest[at..at + word.len() + "${}".len()];
                anyhow::ensure!(
                    depth < DEPTH_MAX,
                    "${{{}: defaults within defaults, more than {DEPTH_MAX} deep: write the value in its place",
                    name_of(word)
                );
                match self.one(word, depth)? {
                    Some(value) => filled.push_str(&value),
                    None => self.left(name_of(word), written, &mut filled),
                }
                rest = &rest[at + written.len()..];
            } else if name.is_empty() {
                filled.push('$');
                rest = after;
            } else {
                match (self.value)(name) {
                    Some(value) => filled.push_str(&value),
                    None => self.left(name, &rest[at..=at + name.len()], &mut filled),
                }
                rest = &after[name.len()..];
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Set nowhere: stays as it is written.
    fn left(&mut self, name: &str, written: &str, filled: &mut String) {
        self.unset.insert(name.to_owned());
        filled.push_str(written);
    }

    /// What stands for one word between braces; `None`: it is set nowhere.
    fn one(&mut self, word: &str, depth: usize) -> anyhow::Result<Option<String>> {
        let name = name_of(word);
        let rest = &word[name.len()..];
        let set = (self.value)(name);
        let (full, rest) = match rest.strip_prefix(':') {
            Some(rest) => (set.filter(|value| !value.is_empty()), rest),
            None => (set, rest),
        };
        let mut other = |mark: char| match rest.strip_prefix(mark) {
            Some(other) => self.fill(other, depth + 1).map(Some),
            None => Ok(None),
        };
        match (full, rest.chars().next()) {
            (Some(_), Some('+')) => other('+'),
            (None, Some('+')) => Ok(Some(String::new())),
            (None, Some('-')) => other('-'),
            (full, _) => Ok(full),
        }
    }
}

/// The name that a text begins with.
fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    &text[..end.unwrap_or(text.len())]
}

/// What stands before the brace that closes the one before the text.
fn closed(text: &str) -> anyhow::Result<&str> {
    let mut open = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(&text[..at]);
        }
    }
    anyhow::bail!(
        "${{{} is not closed in its line: add the closing brace, or write $$ for a dollar",
        name_of(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> anyhow::Result<(String, Vec<String>)> {
        let value = |name: &str| match name {
            "V" => Some("2.53".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        let (text, unset) = fill_in(text, &value)?;
        Ok((text, unset.into_iter().collect()))
    }

    /// Goal: values are those that compose would have given. Method: each form, for a name that is set, empty, and unset.
    #[test]
    fn compose_files_are_filled_in() {
        for (written, wanted) in [
            ("a:v${V} $V", "a:v2.53 2.53"),
            ("${W:-w} ${W-w} ${E:-w} [${E-w}]", "w w w []"),
            ("${V:-w} ${V-w} ${V:?must} ${V?must}", "2.53 2.53 2.53 2.53"),
            (
                "[${V:+yes} ${V+yes} ${E+yes} ${E:+yes} ${W+yes}]",
                "[yes yes yes  ]",
            ),
            ("${W:-a:-b} ${W:-db-1:3306} x:-y", "a:-b db-1:3306 x:-y"),
            ("$$V $${V} 5$ $ é${V}é", "$V ${V} 5$ $ é2.53é"),
            ("${W:-{a}} ${V:-$W}", "{a} 2.53"),
            // A word holds variables again, which count only where it is used.
            ("${W:-${V}} ${W:-$V}/x", "2.53 2.53/x"),
            ("${W:-${X:-c}} ${W-${X-${E:-d}}}", "c d"),
            ("${V:-${X}} ${W:+${X}} ${V:+v${V}}", "2.53  v2.53"),
            ("# ${OPEN\na: ${V} # ${V}", "# ${OPEN\na: 2.53 # 2.53"),
        ] {
            let expected = (wanted.to_owned(), Vec::new());
            assert_eq!(filled(written).expect(written), expected, "{written}");
        }
    }

    /// Goal: what is set nowhere stays and is named, once.
    #[test]
    fn what_is_set_nowhere_is_named() {
        let text = "${X} ${Y:?must be set} ${Z?must} ${E:?full} ${A:-${B}} $X";
        let (left, named) = filled(text).expect("closed");
        assert_eq!(left, text.replace("${A:-${B}}", "${B}"));
        assert_eq!(named, ["B", "E", "X", "Y", "Z"]);
    }

    /// Goal: what cannot be read is refused by the variable's name, however deep somebody nests.
    #[test]
    fn open_braces_and_endless_nesting_are_refused() {
        for open in ["a: ${WA_X", "a: ${WA_X:-${V}", "a: ${WA_X:-\nb: }"] {
            let why = filled(open).expect_err(open).to_string();
            assert!(why.starts_with("${WA_X is not closed"), "{why}");
        }
        let nested = |depth: usize| "${W:-".repeat(depth) + "w" + &"}".repeat(depth);
        assert_eq!(filled(&nested(DEPTH_MAX)).expect("read").0, "w");
        let why = filled(&nested(DEPTH_MAX + 1)).expect_err("too deep");
        assert!(why.to_string().starts_with("${W: defaults within"), "{why}");
        assert!(filled(&nested(10_000)).is_err());
    }
}
