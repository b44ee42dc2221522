//! Ids of messages, of ours and of customers, as clients name them.
//! Knows no message.

/// Longest message id that clients may name in a reply or a read mark, in bytes.
pub const MESSAGE_ID_LEN_MAX: usize = 256;

/// Whether a text can be the id of a message: printable, no blanks, of a sane length.
pub fn is_message_id(id: &str) -> bool {
    (1..=MESSAGE_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}
