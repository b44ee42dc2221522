//! Media types of files: cleaned of what says nothing, with the ending that a file of a type has.
//! Looks into no file.

use std::fmt;

/// Longest media type, in bytes.
const LEN_MAX: usize = 128;
/// Longest ending of a file's name.
const ENDING_LEN_MAX: usize = 10;

/// Types under other names that clients and servers write, and the documented ones.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("image/jpg", "image/jpeg"),
    ("image/pjpeg", "image/jpeg"),
    ("audio/mp3", "audio/mpeg"),
    ("audio/x-m4a", "audio/mp4"),
    ("audio/m4a", "audio/mp4"),
    ("audio/opus", "audio/ogg; codecs=opus"),
];

/// What servers say of a file whose type they do not know.
const SAYS_NOTHING: &[&str] = &["application/octet-stream", "binary/octet-stream"];

/// The usual ending, where a type has several.
const USUAL: &[(&str, &str)] = &[
    ("application/msword", "doc"),
    ("application/octet-stream", "bin"),
    ("application/pdf", "pdf"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/zip", "zip"),
    ("audio/aac", "aac"),
    ("audio/amr", "amr"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("image/jpeg", "jpg"),
    ("image/png", "png"),
    ("image/webp", "webp"),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("video/3gpp", "3gp"),
    ("video/mp4", "mp4"),
];

/// The type of a file, in lower case, with only those parameters that mean something for it. A header can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType(String);

impl MediaType {
    /// Reads and cleans; `None` when it is no media type.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let plain = text.split(';').next().unwrap_or_default().trim();
        if text.len() > LEN_MAX {
            return None;
        }
        // A parameter that nobody can read says nothing, and does not make the type wrong.
        let read: mime::Mime = text.parse().or_else(|_| plain.parse()).ok()?;
        let parts = [read.type_().as_str(), read.subtype().as_str()];
        if parts.iter().any(|part| matches!(*part, "" | "*")) {
            return None;
        }
        let plain = read.essence_str().to_ascii_lowercase();
        if let Some((_, name)) = OTHER_NAMES.iter().find(|(other, _)| *other == plain) {
            return Some(Self((*name).to_owned()));
        }
        let wanted = match read.type_().as_str() {
            "audio" | "video" => "codecs",
            "text" => "charset",
            _ => return Some(Self(plain)),
        };
        match read.get_param(wanted).map(|value| value.as_str()) {
            Some(value) if is_token(value) && wanted == "charset" => Some(Self(format!(
                "{plain}; {wanted}={}",
                value.to_ascii_lowercase()
            ))),
            Some(value) if is_token(value) => Some(Self(format!("{plain}; {wanted}={value}"))),
            Some(value) if value.split(',').all(|one| is_token(one.trim())) => {
                Some(Self(format!("{plain}; {wanted}=\"{value}\"")))
            }
            _ => Some(Self(plain)),
        }
    }

    /// That of a stored file; one that cannot be read is of no known type.
    pub fn of_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(Self::unknown)
    }

    /// No more is known than that it is a file.
    pub fn unknown() -> Self {
        Self(SAYS_NOTHING[0].to_owned())
    }

    /// The type that files of a name, or an address, with this ending have.
    pub fn of_name(name: &str) -> Option<Self> {
        let ending = ending_of(name)?;
        let known = mime_guess::from_ext(&ending).first_raw()?;
        Self::parse(known)
    }

    /// Opus in Ogg.
    pub fn ogg_opus() -> Self {
        Self("audio/ogg; codecs=opus".to_owned())
    }

    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without parameters.
    pub fn plain(&self) -> &str {
        self.0.split(';').next().unwrap_or_default()
    }

    /// It does not say what the file is.
    pub fn says_nothing(&self) -> bool {
        SAYS_NOTHING.contains(&self.plain())
    }

    /// The name for a file of this type, given to whoever takes it: `stem` and an ending, which is the type's own, else that
    /// of the file's name. Both are of letters and digits only.
    pub fn file_name(&self, stem: &str, name: Option<&str>) -> String {
        let stem: String = stem.chars().filter(|c| is_plain(*c)).collect();
        let named = name.and_then(ending_of);
        let ending = match self.says_nothing() {
            true => named.or_else(|| self.ending()),
            false => self.ending().or(named),
        };
        match ending {
            Some(ending) => format!("{stem}.{ending}"),
            None => stem,
        }
    }

    fn ending(&self) -> Option<String> {
        let plain = self.plain();
        if let Some((_, ending)) = USUAL.iter().find(|(of, _)| *of == plain) {
            return Some((*ending).to_owned());
        }
        let known = mime_guess::get_mime_extensions_str(plain)?;
        let fitting = known.iter().find(|ending| ending.len() <= ENDING_LEN_MAX);
        fitting.map(|ending| (*ending).to_owned())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

fn is_token(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.bytes().all(good)
}

/// What follows the last dot of a name, if that is an ending.
fn ending_of(name: &str) -> Option<String> {
    let (_, ending) = name.rsplit_once('.')?;
    let good = (1..=ENDING_LEN_MAX).contains(&ending.len())
        && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| ending.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal (F15): a type keeps what means something for it and nothing else. Method: types as clients write them.
    #[test]
    fn f15_types_are_cleaned() {
        for (typed, cleaned) in [
            ("image/jpeg; charset=UTF-8", "image/jpeg"),
            (" Image/JPEG ", "image/jpeg"),
            ("image/jpg", "image/jpeg"),
            ("image/jpeg;", "image/jpeg"),
            ("image/jpeg; charset", "image/jpeg"),
            ("image/png; name=\"a b.png\"", "image/png"),
            ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
            ("Audio/OGG;Codecs=opus;x=1", "audio/ogg; codecs=opus"),
            ("audio/ogg; charset=binary", "audio/ogg"),
            (
                "video/mp4; codecs=\"avc1.42E01E, mp4a.40.2\"",
                "video/mp4; codecs=\"avc1.42E01E, mp4a.40.2\"",
            ),
            ("text/plain; charset=UTF-8", "text/plain; charset=utf-8"),
            ("application/pdf; qs=0.001", "application/pdf"),
            (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document; charset=utf-8",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            ),
            ("image/svg+xml; charset=utf-8", "image/svg+xml"),
        ] {
            let read = MediaType::parse(typed).unwrap_or_else(|| panic!("{typed}"));
            assert_eq!(read.as_str(), cleaned, "{typed}");
            assert_eq!(MediaType::parse(cleaned), Some(read), "{typed}");
        }
        for bad in [
            "",
            "image",
            "image/",
            "/png",
            "a b/c",
            "*/*",
            "image/*",
            "a/b\r\nx: y",
        ] {
            assert_eq!(MediaType::parse(bad), None, "{bad:?}");
        }
    }

    /// Goal (F15): a file has the ending of its type, or of its name, and nothing of a name can end a header.
    #[test]
    fn f15_names_have_endings_and_nothing_else() {
        let name = |kind: &str, name| MediaType::of_stored(kind).file_name("f0-1", name);
        assert_eq!(name("image/jpeg", None), "f0-1.jpg");
        assert_eq!(name("audio/ogg; codecs=opus", Some("x.pdf")), "f0-1.ogg");
        assert_eq!(
            name("application/octet-stream", Some("Plan.DWG")),
            "f0-1.dwg"
        );
        assert_eq!(name("application/octet-stream", None), "f0-1.bin");
        assert_eq!(name("application/x-nobody-knows", Some("a.b")), "f0-1.b");
        assert_eq!(
            name("application/x-nobody-knows", Some("a.\"\r\nx: y")),
            "f0-1"
        );
        let odd = MediaType::unknown().file_name("a\"\r\n/../b", Some("e.\u{2028}"));
        assert_eq!(odd, "ab.bin");
    }

    #[test]
    fn endings_tell_types() {
        let of = |name| MediaType::of_name(name).map(|found| found.0);
        assert_eq!(of("offer.PDF").as_deref(), Some("application/pdf"));
        assert_eq!(of("a.b/photo.jpg").as_deref(), Some("image/jpeg"));
        assert_eq!(of("photo"), None);
        assert_eq!(of("photo.nobodyknows"), None);
    }
}
