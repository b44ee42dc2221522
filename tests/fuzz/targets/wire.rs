//! The decoder of datagrams: no bytes panic it, and what it understands it writes again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wa_core::wire::{DATAGRAM_LEN_MAX, MAC_LEN, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = decode(bytes) else {
        return;
    };
    let mut again = [0; DATAGRAM_LEN_MAX];
    let len = encode(&datagram, &mut again);
    assert!(len + MAC_LEN <= DATAGRAM_LEN_MAX, "{len} bytes: {datagram:?}");
    assert_eq!(decode(&again[..len]), Ok(datagram));
});
