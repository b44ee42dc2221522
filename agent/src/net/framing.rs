//! `Content-Length` beside `Transfer-Encoding`: the HTTP library believes the second and drops the first, but a proxy in front of us
//! may believe the other, and take one request for two. So the bytes of a head are looked at, too. Reads no body.

use http::{HeaderMap, header};

/// Headers of a request, at most: what the HTTP library takes.
const HEADERS_MAX: usize = 100;

/// What stood in a head, before the library read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One word on where the body ends.
    Plain,
    /// Two: the request is refused.
    Both,
    /// Its head came while the request before it ran, and was not seen whole: nothing may follow it on this connection.
    Unseen,
}

/// Judges a request by its headers as they were read, and by the bytes in which they came.
pub fn of(headers: &HeaderMap, head: &[u8]) -> Framing {
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Framing::Plain;
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Framing::Both;
    }
    let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Framing::Unseen,
    }
    let is_length = |one: &&httparse::Header<'_>| one.name.eq_ignore_ascii_case("content-length");
    let lengths = request.headers.iter().filter(is_length).count();
    if lengths > 0 {
        return Framing::Both;
    }
    // Bytes of another request are no word on this one.
    let own = |one: &httparse::Header<'_>| headers.contains_key(one.name);
    match request.headers.len() == headers.len() && request.headers.iter().all(own) {
        true => Framing::Plain,
        false => Framing::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(names: &[&'static str]) -> HeaderMap {
        let pair = |name: &&'static str| {
            let value = HeaderValue::from_static("chunked");
            (HeaderName::from_static(name), value)
        };
        names.iter().map(pair).collect()
    }

    /// Goal: two words on where a body ends are seen in any order and spelling; a head that was not seen is trusted in nothing. Method: a
    /// table of heads, with the headers that the library leaves of them.
    #[test]
    fn two_lengths_are_seen() {
        let te = read(&["host", "transfer-encoding"]);
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        for (lines, framing) in [
            ("Transfer-Encoding: chunked\r\n", Framing::Plain),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Framing::Both,
            ),
            (
                "CONTENT-LENGTH: 5\r\ntransfer-encoding: chunked\r\n",
                Framing::Both,
            ),
            (
                "Content-Length: 0\r\nTransfer-Encoding: x\r\n",
                Framing::Both,
            ),
            ("X: y\r\nTransfer-Encoding: chunked\r\n", Framing::Unseen),
            ("X: y\r\n", Framing::Unseen),
        ] {
            assert_eq!(of(&te, head(lines).as_bytes()), framing, "{lines}");
        }
        for unseen in [
            &b""[..],
            b"POST / HTTP/1.1\r\nHost: x\r\n",
            b"ost: x\r\n\r\n",
        ] {
            assert_eq!(of(&te, unseen), Framing::Unseen);
        }
        let both = read(&["transfer-encoding", "content-length"]);
        assert_eq!(of(&both, b""), Framing::Both);
        assert_eq!(of(&read(&["content-length"]), b""), Framing::Plain);
    }

    /// Goal: what a fuzz run found stays mended. Method: its seeds, of which one is a plain head.
    #[test]
    fn seeds_are_judged() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/head");
        let te = read(&["transfer-encoding"]);
        let mut plain = 0;
        for entry in std::fs::read_dir(folder).expect("seeds").flatten() {
            let bytes = std::fs::read(entry.path()).expect("a seed");
            plain += u32::from(of(&te, &bytes) == Framing::Plain);
        }
        assert_eq!(plain, 1, "the seed of that name");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 100_000, failure_persistence: None, ..Default::default() })]

        /// Goal: no bytes panic the reader, and a length that stands in a whole head is never called plain. Method: noise, and heads with
        /// noise in the middle.
        #[test]
        fn any_bytes_are_judged(noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), first: bool) {
            let te = read(&["transfer-encoding"]);
            let _ = of(&te, &noise);
            let length = &b"Content-Length: 1\r\n"[..];
            // A head that ends in the middle is another one.
            let noise: Vec<u8> = noise.into_iter().filter(|b| *b != b'\n').collect();
            let line = [&b"X: "[..], &noise, b"\r\n"].concat();
            let (one, two) = if first { (length, &line[..]) } else { (&line[..], length) };
            let start = &b"POST / HTTP/1.1\r\n"[..];
            let bytes = [start, one, two, b"Transfer-Encoding: chunked\r\n\r\n"].concat();
            proptest::prop_assert_ne!(of(&te, &bytes), Framing::Plain);
        }
    }
}
