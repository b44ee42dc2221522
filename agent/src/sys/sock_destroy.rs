//! Ends the TCP connections of one control group in the kernel (sock_diag, `SOCK_DESTROY`), and looks whether all are gone.
//! Decides nothing about whose: the caller names the group and what to spare. Needs CAP_NET_ADMIN.
//!
//! Written by hand: the netlink crates know neither the filter by control group nor the request to destroy. Layouts are
//! those of `linux/sock_diag.h` and `linux/inet_diag.h`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
/// `INET_DIAG_REQ_BYTECODE` and the condition on the control group in it.
const BYTECODE: u16 = 1;
const CGROUP_COND: u8 = 13;
const HEADER_LEN: usize = 16;
const SOCKID_LEN: usize = 48;
/// All states but CLOSE, LISTEN, TIME_WAIT and NEW_SYN_RECV (bits by the numbers of `tcp_states.h`): those carry no
/// payload of ours.
const STATES: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10);
/// Rounds of looking and destroying: a process that is not stopped may open another meanwhile.
const ROUNDS_MAX: usize = 5;
/// Sockets of one group that are looked at; a coreapp opens some dozens.
const SOCKETS_MAX: usize = 16_384;

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    family: u8,
    /// The kernel's own name of it, cookie included: a later connection of the same addresses is another one.
    id: [u8; SOCKID_LEN],
    pub peer: SocketAddr,
}

/// What [`destroy`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Destroyed {
    pub destroyed: usize,
    /// Still there at the last look. More than zero: the group's processes go on connecting.
    pub left: usize,
    /// This kernel cannot destroy sockets (`CONFIG_INET_DIAG_DESTROY` is off).
    pub unsupported: bool,
}

/// The TCP connections of a control group, by its id.
///
/// # Errors
/// When the kernel does not say: no sock_diag, no filter by control group (before 5.9).
pub fn connections(cgroup: u64) -> io::Result<Vec<Connection>> {
    let socket = open()?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        send(&socket, &dump_request(family, cgroup))?;
        receive(&socket, |kind, body| {
            if kind == BY_FAMILY
                && found.len() < SOCKETS_MAX
                && let Some(connection) = parse(body)
            {
                found.push(connection);
            }
        })?;
    }
    Ok(found)
}

/// Destroys every connection of the group whose peer is not spared, and looks again until none is left.
///
/// # Errors
/// When the kernel does not say or refuses.
pub fn destroy(cgroup: u64, spare: impl Fn(IpAddr) -> bool) -> io::Result<Destroyed> {
    let mut done = Destroyed::default();
    for _ in 0..ROUNDS_MAX {
        let mut there = connections(cgroup)?;
        there.retain(|connection| !spare(connection.peer.ip().to_canonical()));
        done.left = there.len();
        if there.is_empty() {
            break;
        }
        let socket = open()?;
        for connection in &there {
            send(&socket, &destroy_request(connection))?;
            match receive(&socket, |_, _| {}) {
                Ok(()) => done.destroyed += 1,
                // It ended by itself in between.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    done.unsupported = true;
                    return Ok(done);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(done)
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    // The kernel answers at once; a deadline all the same.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn send(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
    Ok(())
}

/// Reads answers until the kernel says that there are no more, or acknowledges.
fn receive(socket: &OwnedFd, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..len];
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(libc::EBADMSG, |code| {
                        i32::from_ne_bytes(*code).saturating_neg()
                    });
                    return match code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                kind => take(kind, body),
            }
            rest = after;
        }
    }
}

/// Type, body and rest of the first message.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?);
    let len = usize::try_from(len).ok()?;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let body = bytes.get(HEADER_LEN..len)?;
    let next = len.next_multiple_of(4).min(bytes.len());
    Some((kind, body, &bytes[next..]))
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER_LEN + body.len());
    out.extend(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((FLAG_REQUEST | flags).to_ne_bytes());
    // Sequence and port: one request at a time on a socket of its own.
    out.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(body);
    out
}

/// `inet_diag_req_v2`.
fn inet_request(family: u8, states: u32, id: &[u8; SOCKID_LEN]) -> Vec<u8> {
    let tcp = libc::IPPROTO_TCP.to_ne_bytes()[0];
    let mut body = vec![family, tcp, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

fn dump_request(family: u8, cgroup: u64) -> Vec<u8> {
    let mut body = inet_request(family, STATES, &[0; SOCKID_LEN]);
    // One condition of 12 bytes: a match goes to its end (accepted), anything else beyond it (refused).
    let mut code = vec![CGROUP_COND, 12];
    code.extend(16u16.to_ne_bytes());
    code.extend(cgroup.to_ne_bytes());
    let attribute_len = u16::try_from(4 + code.len()).unwrap_or(u16::MAX);
    body.extend(attribute_len.to_ne_bytes());
    body.extend(BYTECODE.to_ne_bytes());
    body.extend(code);
    request(BY_FAMILY, FLAG_DUMP, &body)
}

fn destroy_request(connection: &Connection) -> Vec<u8> {
    let body = inet_request(connection.family, u32::MAX, &connection.id);
    request(DESTROY, FLAG_ACK, &body)
}

/// `inet_diag_msg`: family, state, timer, retransmits, then the socket's name.
fn parse(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let id: [u8; SOCKID_LEN] = *body.get(4..)?.first_chunk()?;
    let port = u16::from_be_bytes([id[2], id[3]]);
    let peer: [u8; 16] = *id.get(20..)?.first_chunk()?;
    let peer = if i32::from(family) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::new(peer[0], peer[1], peer[2], peer[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(peer))
    };
    let peer = SocketAddr::new(peer, port);
    Some(Connection { family, id, peer })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn rubbish_is_no_message() {
        assert_eq!(message(&[]), None);
        assert_eq!(message(&[200, 0, 0, 0, 2, 0]), None);
        assert_eq!(message(&[3; 16]), None);
        assert_eq!(parse(&[2; 20]), None);
    }

    /// Goal: exactly the connections of the group end, those that are spared do not, both ends notice, and what was read
    /// back is true. Method: a real control group with a process that holds three connections; needs root.
    #[test]
    fn the_connections_of_a_group_end_and_no_others() {
        let what = "the_connections_of_a_group_end_and_no_others";
        let skipped = |why: &str| drop(writeln!(io::stdout(), "SKIPPED: {what}: {why}"));
        let Ok(root) = crate::sys::cgroup::root() else {
            return skipped("no cgroup v2 here");
        };
        let path = root.join(format!("wa-test-destroy-{}", std::process::id()));
        if std::fs::create_dir(&path).is_err() {
            return skipped("making a control group needs root");
        }
        let listen = |at: &str| TcpListener::bind(at).expect("bound");
        let (one, two, spared) = (
            listen("127.0.0.1:0"),
            listen("[::1]:0"),
            listen("127.0.0.2:0"),
        );
        let port = |of: &TcpListener| of.local_addr().expect("an address").port();
        let script = format!(
            "read go; exec 3<>/dev/tcp/127.0.0.1/{} 4<>/dev/tcp/::1/{} 5<>/dev/tcp/127.0.0.2/{}; \
             echo open; read go; (echo x >&3) 2>/dev/null && echo sent; (echo y >&5) && echo spared; read end",
            port(&one),
            port(&two),
            port(&spared)
        );
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let mut tell = child.stdin.take().expect("piped");
        let mut says = child.stdout.take().expect("piped");
        let mut hear = |len: usize| {
            let mut text = vec![0; len];
            says.read_exact(&mut text).expect("it says something");
            String::from_utf8_lossy(&text).into_owned()
        };
        std::fs::write(path.join("cgroup.procs"), child.id().to_string()).expect("moved");
        let cgroup = std::fs::metadata(&path).expect("there").ino();
        let stranger =
            TcpStream::connect(one.local_addr().expect("an address")).expect("connected");
        assert_eq!(connections(cgroup).expect("looked"), []);
        writeln!(tell, "go").expect("told");
        assert_eq!(hear(5), "open\n");
        let before = connections(cgroup).expect("looked");
        assert_eq!(before.len(), 3, "{before:?}");
        let keep: IpAddr = "127.0.0.2".parse().expect("an address");
        let done = destroy(cgroup, |peer| peer == keep).expect("destroyed");
        if done.unsupported {
            skipped("this kernel cannot destroy sockets");
        } else {
            assert_eq!((done.destroyed, done.left), (2, 0));
            let left = connections(cgroup).expect("looked");
            assert_eq!(left.iter().map(|c| c.peer.ip()).collect::<Vec<_>>(), [keep]);
            writeln!(tell, "go").expect("told");
            assert_eq!(hear(7), "spared\n", "what was destroyed takes no byte");
            let (mut at_peer, _) = two.accept().expect("it had connected");
            let mut byte = [0];
            let error = at_peer.read(&mut byte).expect_err("reset, not closed");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(
                stranger.peer_addr().is_ok(),
                "another group's was destroyed"
            );
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        std::fs::remove_dir(&path).expect("removed");
    }
}
