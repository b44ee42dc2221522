//! `biz_opaque_callback_data`: what travels with a message of ours and comes back with each of its statuses, also when the answer
//! to the send was lost. It holds our id and the customer's hash, so that a status finds its shard without a look into the store.
//! The client's own data stays in our row; here is only a mark that there is some.

/// The field that travels with a message, and comes back with its statuses.
pub const OPAQUE: &str = "biz_opaque_callback_data";

/// What the upstream carries for us, as text `id.hash` or `id.hash+`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// Our id of the message.
    pub id: String,
    /// The customer's hash; messages that an earlier release sent have none.
    pub recipient_hash: Option<u32>,
    /// The client gave data of its own, which its callbacks repeat.
    pub client_data: bool,
}

/// Ends the text of a message with data of the client.
const MARK: char = '+';
/// The two prefixes of our ids: random ones, and those that a client's key stands for.
const PREFIXES: [&str; 2] = ["gBEG", "gBEK"];
/// Digits of a hash.
const HASH_LEN: usize = 8;
/// Characters of an id after its prefix: 16 bytes in base64.
const REST_LEN: usize = 22;

/// An id of the form that `POST /v1/messages` answers.
pub fn is_ours(id: &str) -> bool {
    let mut rests = PREFIXES.iter().filter_map(|prefix| id.strip_prefix(prefix));
    rests.next().is_some_and(|rest| {
        rest.len() == REST_LEN
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

fn is_hash(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == HASH_LEN && text.bytes().all(digit)
}

impl Opaque {
    /// The text that goes along.
    pub fn text(&self) -> String {
        let hash = self
            .recipient_hash
            .map_or(String::new(), |hash| format!(".{hash:08x}"));
        let mark = if self.client_data { "+" } else { "" };
        format!("{}{hash}{mark}", self.id)
    }

    /// What came back; `None`: it is not of this system. Whether there is such a message of ours is another question.
    pub fn read(text: &str) -> Option<Self> {
        let (whole, client_data) = match text.strip_suffix(MARK) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let opaque = |id: &str, recipient_hash| Self {
            id: id.to_owned(),
            recipient_hash,
            client_data,
        };
        match whole.rsplit_once('.') {
            // As it is written, to the digit: other systems' data may hold dots and dates, too.
            Some((id, hash)) if is_ours(id) && is_hash(hash) => {
                Some(opaque(id, Some(u32::from_str_radix(hash, 16).ok()?)))
            }
            Some(_) => None,
            None => is_ours(whole).then(|| opaque(whole, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "gBEGkYaYVSEEAgnZxQ3JmKK6Ww";

    /// Goal: what went out is read again. Method: every combination, and what earlier releases sent.
    #[test]
    fn what_went_out_comes_back() {
        for (recipient_hash, client_data, text) in [
            (Some(0xbeef), false, format!("{ID}.0000beef")),
            (Some(u32::MAX), true, format!("{ID}.ffffffff+")),
            (Some(0), false, format!("{ID}.00000000")),
            (None, false, ID.to_owned()),
        ] {
            let opaque = Opaque {
                id: ID.to_owned(),
                recipient_hash,
                client_data,
            };
            assert_eq!(opaque.text(), text);
            assert_eq!(Opaque::read(&text), Some(opaque));
        }
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_it() {
        for text in [
            "",
            "+",
            ".",
            ".5",
            "order-77",
            "a.b.zzzzzzzz",
            "campaign.42",
            "gBEGshort",
            "gBEGkYaYVSEEAgnZxQ3JmKK6W!",
            "x.123456789",
            "x.-2345678",
            "order.20261130",
            "order.20261130+",
            "m1.00000007",
            "gBEGshort.00000007",
            "wamid.HBgLNDQ3NzAwOTAwMTIz.00000007",
            "gBGGkYaYVSEEAgnZxQ3JmKK6Ww.00000007",
            "gBEGkYaYVSEEAgnZxQ3JmKK6Ww.+0000007",
            "gBEGkYaYVSEEAgnZxQ3JmKK6Ww.0000BEEF",
        ] {
            assert_eq!(Opaque::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn ids_of_ours_have_their_form() {
        assert!(is_ours(ID) && is_ours("gBEKAAAAAAAAAAAAAAAAAAAAA_"));
        for id in [
            "wamid.HBgLNDQ3NzAwOTAwMTIz",
            "gBEG",
            "gBGGFlA5FpafAgkOuJbRq54qwb",
            "",
        ] {
            assert!(!is_ours(id), "{id}");
        }
    }
}
