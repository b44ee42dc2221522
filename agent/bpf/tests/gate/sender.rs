//! The coreapp of the failover test: renews, keeps its deadline in its own map, and otherwise behaves as badly as it can.
//! It never shuts its gate, never stops to send when its tenure is over, keeps old connections and tries new ones
//! when its tenure is over. What keeps it from harm is the gate alone.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use wa_bpf::UnitMap;

use crate::failover::{MARGIN, TTL, hold, port_of};
use crate::rig::now_ns;

/// Connections under old epochs that it goes on with.
const OLD_MAX: usize = 3;

struct Connection {
    epoch: u64,
    socket: Socket,
    /// Tries for a second connection under this epoch.
    again: u16,
}

struct Sender {
    stream: UnixStream,
    map: UnitMap,
    upstream: SocketAddr,
    connections: Vec<Connection>,
    /// The epoch that it was granted and renews.
    renewing: Option<u64>,
    renew_at: u64,
    input: Vec<u8>,
}

fn connect(epoch: u64, again: u16, to: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([10, 77, 1, 1], port_of(epoch, again))).into())?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(e),
        _ => Ok(socket),
    }
}

/// Runs until the stream ends.
pub fn serve(stream: UnixStream, map: UnitMap, upstream: SocketAddr) {
    stream.set_nonblocking(true).expect("a socket");
    let mut sender = Sender {
        stream,
        map,
        upstream,
        connections: Vec::new(),
        renewing: None,
        renew_at: 0,
        input: Vec::new(),
    };
    while sender.turn() {
        std::thread::sleep(Duration::from_micros(700));
    }
}

impl Sender {
    /// One turn; false when nobody listens any more.
    fn turn(&mut self) -> bool {
        let mut block = [0u8; 512];
        match self.stream.read(&mut block) {
            Ok(0) => return false,
            Ok(n) => self.input.extend_from_slice(&block[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).into_owned();
            self.told(line.trim_end());
        }
        for connection in &self.connections {
            let _ = connection
                .socket
                .send(format!("{:07};", connection.epoch).as_bytes());
        }
        // Now and then another connection under the last epoch that it had, live or not. (Under an older one it cannot: what
        // is connected carries the live epoch.)
        let own = self.map.read().0;
        if now_ns().is_multiple_of(13)
            && let Some(old) = self.connections.iter_mut().find(|c| c.epoch == own)
            && old.again < 3
        {
            old.again += 1;
            let (epoch, again) = (old.epoch, old.again);
            if let Ok(socket) = connect(epoch, again, self.upstream) {
                let _ = socket.send(format!("{epoch:07};").as_bytes());
                self.connections.push(Connection {
                    epoch,
                    socket,
                    again: 3,
                });
            }
        }
        if let Some(epoch) = self.renewing
            && now_ns() >= self.renew_at
        {
            self.renew(epoch);
        }
        true
    }

    fn renew(&mut self, epoch: u64) {
        let sent = now_ns();
        self.renew_at = sent + u64::try_from(TTL.as_nanos()).expect("short") / 3;
        let _ = writeln!(self.stream, "renew {epoch} {sent}");
    }

    fn told(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "grant" => {
                self.renewing = Some(number(1));
                self.renew(number(1));
            }
            "held" => {
                let (epoch, deadline) = (number(1), number(2) + hold());
                if self.map.extend(epoch, deadline).is_ok()
                    || self.map.open(epoch, deadline).is_err()
                {
                    return;
                }
                if let Ok(socket) = connect(epoch, 0, self.upstream) {
                    self.connections.push(Connection {
                        epoch,
                        socket,
                        again: 0,
                    });
                }
                let surplus = self.connections.len().saturating_sub(OLD_MAX);
                self.connections.drain(..surplus);
            }
            other => panic!("{other}"),
        }
    }
}

const _: () = assert!(MARGIN.as_millis() * 4 < TTL.as_millis());
