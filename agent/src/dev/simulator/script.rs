//! Recipients that make an error: the table that `--help` prints, and what each of its numbers does.
//! Plays nothing: `messages.rs` does.

use std::fmt::Write as _;

use super::codes::{self, CODES, Known};
use super::reader::sent::Recipient;

/// The beginning of all such numbers: numbers of films, which nobody has.
const PREFIX: &str = "1555";
/// One digit for the way, and six for the code.
const REST_LEN: usize = 7;

/// What a recipient does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// The send is refused.
    Refused(&'static Known),
    /// The send is accepted, and a webhook says that it failed.
    Failed(&'static Known),
    /// The send is refused, and a webhook says so as well.
    Both(&'static Known),
    /// The first send of a message is refused; the same message is accepted later.
    Once(&'static Known),
    /// The answer is not as documented.
    Odd(Odd),
    /// The webhooks are not the usual ones.
    Story(Story),
}

/// Answers that are not as documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// 200 without an id of the message, which goes out.
    NoId,
    /// 200 with a page of a proxy; the message does not go out.
    PageOk,
    /// No answer; the message goes out.
    SilentSent,
    /// No answer; the message does not go out.
    SilentUnsent,
    /// The answer breaks off; the message goes out.
    Broken,
    /// 500 with a page; the message does not go out.
    PageUnsent,
    /// 502 with a page; the message goes out.
    PageSent,
}

impl Odd {
    const ALL: [Self; 7] = [
        Self::NoId,
        Self::PageOk,
        Self::SilentSent,
        Self::SilentUnsent,
        Self::Broken,
        Self::PageUnsent,
        Self::PageSent,
    ];

    /// Its number, and its line in the help.
    pub fn line(self) -> (u32, &'static str) {
        match self {
            Self::NoId => (200, "HTTP 200 without a message id; the message goes out"),
            Self::PageOk => (
                201,
                "HTTP 200 with a page of HTML; the message does not go out",
            ),
            Self::SilentSent => (408, "no answer; the message goes out"),
            Self::SilentUnsent => (409, "no answer; the message does not go out"),
            Self::Broken => (499, "the answer breaks off; the message goes out"),
            Self::PageUnsent => (
                500,
                "HTTP 500 with a page of HTML; the message does not go out",
            ),
            Self::PageSent => (502, "HTTP 502 with a page of HTML; the message goes out"),
        }
    }

    /// The message goes out, whatever the answer says.
    pub fn goes_out(self) -> bool {
        match self {
            Self::NoId | Self::SilentSent | Self::Broken | Self::PageSent => true,
            Self::PageOk | Self::SilentUnsent | Self::PageUnsent => false,
        }
    }
}

/// Webhooks of a send that are not sent, delivered, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    Silent,
    SentOnly,
    NeverDelivered,
    Backwards,
    Twice,
    /// Without our data, and for a recipient that is spelt otherwise.
    Strange,
    BeforeAnswer,
    Played,
    DeliveredAfterFailed,
    FailedAfterDelivered,
}

impl Story {
    const ALL: [Self; 10] = [
        Self::Silent,
        Self::SentOnly,
        Self::NeverDelivered,
        Self::Backwards,
        Self::Twice,
        Self::Strange,
        Self::BeforeAnswer,
        Self::Played,
        Self::DeliveredAfterFailed,
        Self::FailedAfterDelivered,
    ];

    /// Its number, and its line in the help.
    pub fn line(self) -> (u32, &'static str) {
        match self {
            Self::Silent => (1, "no webhook"),
            Self::SentOnly => (2, "sent, and nothing after it"),
            Self::NeverDelivered => (3, "sent, read: delivered is left out"),
            Self::Backwards => (4, "read, delivered, sent: the wrong order"),
            Self::Twice => (5, "sent, delivered, read: each twice"),
            Self::Strange => (
                6,
                "without biz_opaque_callback_data, and recipient_id is spelt with one more 9",
            ),
            Self::BeforeAnswer => (7, "all webhooks come before the answer to the send"),
            Self::Played => (8, "sent, delivered, read, played"),
            Self::DeliveredAfterFailed => (9, "failed with 131026, then delivered"),
            Self::FailedAfterDelivered => (10, "sent, delivered, then failed with 131026"),
        }
    }
}

/// One way: its digit, its line in the help, and what it does.
type Way = (char, &'static str, fn(&'static Known) -> Script);

/// Ways that end in a code of the table.
const WAYS: [Way; 4] = [
    ('0', "the send is refused with the code", Script::Refused),
    (
        '1',
        "the send is accepted; a webhook says failed with the code",
        Script::Failed,
    ),
    (
        '2',
        "the send is refused with the code, and a webhook says failed as well",
        Script::Both,
    ),
    (
        '4',
        "the first send of a message is refused with the code; the same message is accepted later",
        Script::Once,
    ),
];
const ODD: char = '3';
const STORY: char = '5';

/// What this recipient does; `None`: what all others do. The last digits of a user id count like a number.
pub fn of(recipient: &Recipient) -> Option<Script> {
    let number = match recipient {
        Recipient::Number { digits, .. } => digits.as_str(),
        Recipient::User(id) => {
            let at = id.len().checked_sub(PREFIX.len() + REST_LEN)?;
            id.get(at..)?
        }
        Recipient::Group(_) | Recipient::Nobody { .. } => return None,
    };
    let rest = number.strip_prefix(PREFIX)?;
    if rest.len() != REST_LEN || !rest.is_ascii() {
        return None;
    }
    let (way, code) = rest.split_at(1);
    let code: u32 = code.parse().ok()?;
    match way.chars().next()? {
        ODD => {
            let odd = Odd::ALL.into_iter().find(|odd| odd.line().0 == code);
            odd.map(Script::Odd)
        }
        STORY => {
            let story = Story::ALL.into_iter().find(|story| story.line().0 == code);
            story.map(Script::Story)
        }
        way => {
            let (_, _, script) = WAYS.iter().find(|(digit, _, _)| *digit == way)?;
            codes::find(code).map(script)
        }
    }
}

/// The end of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "Recipients that make an error: 1555, one digit for the way, six digits for the code.\n\
         For example, 15550131047 is refused with 131047.\n\n",
    );
    // Writing to a string cannot fail.
    for (digit, what, _) in &WAYS {
        let _ = writeln!(text, "  {PREFIX}{digit}CCCCCC  {what}");
    }
    text.push_str("\nCodes (CCCCCC, with zeros in front):\n");
    for known in CODES {
        let _ = writeln!(
            text,
            "  {:06}  HTTP {}: {}",
            known.code, known.http, known.title
        );
    }
    text.push_str("\nAnswers that are not as documented:\n");
    for (code, what) in Odd::ALL.map(Odd::line) {
        let _ = writeln!(text, "  {PREFIX}{ODD}{code:06}  {what}");
    }
    text.push_str("\nWebhooks that are not sent, delivered, read:\n");
    for (code, what) in Story::ALL.map(Story::line) {
        let _ = writeln!(text, "  {PREFIX}{STORY}{code:06}  {what}");
    }
    text.push_str(MORE);
    text
}

const MORE: &str = "
A user id (recipient) that ends in such a number does the same: GB.15550131047.
A user id, or any other text, in \"to\" is accepted and never delivered, as with the vendor.
Every other recipient gets the message: sent, delivered, read.

Calls for tests (JSON; no token):
  GET  /admin/report        what was seen: accepted, refused by code, never delivered, sent twice, a ban
  GET  /admin/statuses      by our message id: the statuses that the business at /business was told, in order
  POST /admin/reset         forget all of that
  GET  /admin/knobs         how the simulator misbehaves; POST replaces it; what is left out gets its default
  POST /admin/inbound       a customer writes: {\"from\", \"body\"}, {\"from\", \"media\": {\"kind\", \"mime\", \"base64\"}}, or
                            {\"from\", \"message\": {...}}, an item of messages[] as it is to be sent. Beside it, when wanted:
                            user_id, username, profile (a name), no_number, no_profile, no_contact,
                            identity_key_hash (told while the number's setting user_identity_change is on)
  POST /admin/identity      a customer gets another identity key, silently: {\"from\", \"identity_key_hash\"}
  POST /admin/webhook       any other event: {\"field\", \"value\"}
  GET  /admin/templates     the templates; POST adds or replaces one; DELETE ?name=&language= takes one away
  GET  /admin/media         the files, and how often each was fetched; POST /admin/media/forget {\"id\"} forgets one (without an id: all), as after 30 days
  POST /admin/challenge     verifies every webhook address, as the vendor's dashboard does
";

#[cfg(test)]
mod tests {
    use super::*;

    fn number(digits: &str) -> Recipient {
        let (input, digits) = (digits.to_owned(), digits.to_owned());
        Recipient::Number { input, digits }
    }

    /// Goal: no ordinary number does anything odd. Method: numbers of drills, and near misses.
    #[test]
    fn ordinary_numbers_are_ordinary() {
        for plain in [
            "447700900456",
            "15550000005",
            "15556131047",
            "155501310470",
            "1555013104",
            "25550131047",
        ] {
            assert_eq!(of(&number(plain)), None, "{plain}");
        }
        let user = |id: &str| of(&Recipient::User(id.into()));
        assert_eq!(user("GB.1"), None);
        assert!(matches!(user("GB.99915550131047"), Some(Script::Refused(k)) if k.code == 131_047));
    }

    /// Goal: the help has every case, and every case of the help is played. Method: all numbers that stand in it.
    #[test]
    fn help_and_behaviour_agree() {
        let help = help();
        let mut played = 0;
        for known in CODES {
            let line = format!("  {:06}  HTTP {}: ", known.code, known.http);
            assert!(help.contains(&line), "{line}");
            for (digit, what, script) in WAYS {
                assert!(help.contains(&format!("  1555{digit}CCCCCC  {what}\n")));
                let found = of(&number(&format!("1555{digit}{:06}", known.code)));
                assert_eq!(found, Some(script(known)));
                played += 1;
            }
        }
        let lines = help.lines().filter_map(|line| {
            let (number, _) = line.strip_prefix("  ")?.split_once("  ")?;
            (number.len() == 11 && number.bytes().all(|b| b.is_ascii_digit())).then_some(number)
        });
        let mut found: Vec<Script> = lines.map(|n| of(&number(n)).expect(n)).collect();
        found.dedup();
        assert_eq!(found.len(), Odd::ALL.len() + Story::ALL.len());
        assert_eq!(played, 4 * CODES.len());
    }
}
