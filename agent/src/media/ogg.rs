//! What the beginning of an Ogg file says: whether it holds Opus, and of how many channels.
//! Decodes nothing.

use std::io::Cursor;

/// So much of a file holds its first page, which of Opus is a short one (RFC 7845, 3).
pub const HEAD_LEN: usize = 4096;

/// How an identification header begins (RFC 7845, 5.1); then come a version and the number of channels.
const MAGIC: &[u8] = b"OpusHead";

/// Channels of the Opus in a file that begins so; `None`: it is no Opus in Ogg.
pub fn opus_channels(head: &[u8]) -> Option<u8> {
    let mut reader = ogg::PacketReader::new(Cursor::new(head));
    let packet = reader.read_packet().ok()??;
    let rest = packet.data.strip_prefix(MAGIC)?;
    rest.get(1).copied()
}

/// Why a file that begins so is no voice message, if it is none.
pub fn not_voice(head: &[u8]) -> Option<String> {
    match opus_channels(head) {
        Some(1) => None,
        Some(channels) => Some(format!("has {channels} channels; a voice message has one")),
        None => Some("is not Opus in Ogg, which a voice message must be".to_owned()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use ogg::writing::{PacketWriteEndInfo, PacketWriter};

    /// The beginning of an Ogg file whose first packet this is.
    pub fn file(packet: &[u8]) -> Vec<u8> {
        let mut writer = PacketWriter::new(Vec::new());
        let end = PacketWriteEndInfo::EndPage;
        writer
            .write_packet(packet.to_vec(), 1, end, 0)
            .expect("written");
        writer
            .write_packet(vec![7; 300], 1, PacketWriteEndInfo::EndStream, 960)
            .expect("written");
        writer.into_inner()
    }

    /// An Ogg file with Opus of so many channels.
    pub fn opus(channels: u8) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend([1, channels, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0]);
        file(&head)
    }

    /// Goal: one channel of Opus in Ogg is a voice message, and nothing else is. Method: files made by the writer of the
    /// crate, cut and changed.
    #[test]
    fn only_opus_of_one_channel_is_voice() {
        assert_eq!(not_voice(&opus(1)), None);
        assert_eq!(opus_channels(&opus(2)), Some(2));
        assert!(not_voice(&opus(2)).is_some_and(|why| why.contains("2 channels")));
        let vorbis = file(b"\x01vorbis\0\0\0\0\x01");
        let mut changed = opus(1);
        changed[37] ^= 1;
        let whole = opus(1);
        for bad in [&b""[..], b"OggS", b"ID3", &vorbis, &whole[..30], &changed] {
            assert_eq!(opus_channels(bad), None);
            assert!(not_voice(bad).is_some());
        }
        assert_eq!(opus_channels(&file(MAGIC)), None);
    }
}
