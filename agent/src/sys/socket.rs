//! Datagrams with what the kernel knows about them: when they arrived, how many it dropped before, what ICMP said.
//! Understands no content.

use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

use super::clock;

/// Room for one time stamp, one counter and one ICMP error with its address.
const CONTROL_LEN: usize = 256;

/// One datagram.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub len: usize,
    pub from: SocketAddr,
    /// How long it lay in the kernel before it was read; zero where the kernel's stamp makes no sense.
    pub waited: Duration,
    /// How many the kernel dropped on this socket so far, by its filter or for want of room; `None` while it was none.
    pub dropped: Option<u32>,
}

/// Asks the kernel for stamps, drops and ICMP errors. Each is a diagnosis: one that is refused is done without.
pub fn ask_for_details(socket: &UdpSocket) {
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
    let _ = setsockopt(socket, sockopt::RxqOvfl, &1);
    let six = socket.local_addr().is_ok_and(|at| at.is_ipv6());
    let _ = setsockopt(socket, sockopt::Ipv4RecvErr, &true);
    if six {
        let _ = setsockopt(socket, sockopt::Ipv6RecvErr, &true);
    }
}

/// Reads one datagram of a non-blocking socket; `None` when nothing waits. Allocates nothing.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<Arrived> {
    let mut control = [0u8; CONTROL_LEN];
    let mut parts = [IoSliceMut::new(buffer)];
    // An ICMP error is reported once in place of a datagram: it is read elsewhere, the datagram is still there.
    for _ in 0..4 {
        let read = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        match read {
            Ok(message) => {
                let from = message.address.as_ref().and_then(address)?;
                let (mut waited, mut dropped) = (Duration::ZERO, None);
                for part in message.cmsgs().into_iter().flatten() {
                    match part {
                        ControlMessageOwned::ScmTimestampns(stamp) => {
                            waited = clock::waited_since(stamp.into())
                        }
                        ControlMessageOwned::RxqOvfl(count) => dropped = Some(count),
                        _ => {}
                    }
                }
                return Some(Arrived {
                    len: message.bytes,
                    from,
                    waited,
                    dropped,
                });
            }
            Err(nix::errno::Errno::EAGAIN) => return None,
            Err(_) => {}
        }
    }
    None
}

/// Reads what ICMP said of datagrams that we sent, at most `most`; how many there were.
pub fn refused(socket: &UdpSocket, most: usize) -> usize {
    let mut control = [0u8; CONTROL_LEN];
    let mut payload = [0u8; 64];
    let mut parts = [IoSliceMut::new(&mut payload)];
    (0..most)
        .take_while(|_| {
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)
                .is_ok()
        })
        .count()
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*four).into());
    }
    Some(SocketAddrV6::from(*storage.as_sockaddr_in6()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: how long a datagram lay in the kernel is known, so that a late reader does not call it late. Method: ones that lie for at
    /// least 30 ms, until one is stamped: the kernel begins with that a moment after the first socket has asked for it.
    #[test]
    fn a_datagram_that_lay_is_told_from_one_that_came_late() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        ask_for_details(&socket);
        socket.set_nonblocking(true).expect("set");
        let to = socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let mut buffer = [0u8; 64];
        assert!(receive(&socket, &mut buffer).is_none());
        let lies = Duration::from_millis(30);
        for n in 0.. {
            let sent = clock::now();
            sender.send_to(b"x", to).expect("sent");
            std::thread::sleep(lies);
            let arrived = receive(&socket, &mut buffer).expect("loopback is at once");
            assert_eq!(
                (arrived.len, Some(arrived.from)),
                (1, sender.local_addr().ok())
            );
            assert!(arrived.waited <= clock::now().since(sent), "{arrived:?}");
            if arrived.waited >= lies {
                return;
            }
            assert!(n < 100, "{arrived:?}");
        }
    }

    /// Goal: a port that nobody listens on is told, and costs no datagram of others.
    #[test]
    fn a_refusal_is_counted_and_costs_nothing() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        ask_for_details(&socket);
        socket.set_nonblocking(true).expect("set");
        let gone = UdpSocket::bind("127.0.0.1:0")
            .expect("bound")
            .local_addr()
            .expect("bound");
        socket.send_to(b"x", gone).expect("sent");
        UdpSocket::bind("127.0.0.1:0")
            .expect("bound")
            .send_to(b"y", socket.local_addr().expect("bound"))
            .expect("sent");
        let mut buffer = [0u8; 64];
        assert_eq!(receive(&socket, &mut buffer).map(|a| a.len), Some(1));
        assert_eq!((refused(&socket, 8), refused(&socket, 8)), (1, 0));
    }
}
