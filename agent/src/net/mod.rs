//! Bytes in, bytes out: limits, deadlines, drain. Knows HTTP and UDP, no role.

pub mod certificate;
pub mod client;
pub mod client_certificate;
pub mod deed;
pub mod doer;
pub mod door;
pub mod envelope;
pub mod framing;
mod heads;
pub mod health;
pub mod idle;
pub mod inbox;
pub mod keys;
mod nonces;
pub mod own_certificate;
pub mod places;
pub mod proxy;
pub mod public;
mod replay;
pub mod responder;
pub mod room;
pub mod roots;
pub mod seal;
pub mod server;
mod sieve;
pub mod source;
pub mod tls;
pub mod udp;
mod unread;

/// Why the network part could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(
        "port {port} ({what}) on {address} is taken: another process listens there (ss -lntup 'sport = :{port}'); \
         stop it, or set [ports] offset"
    )]
    Taken {
        what: &'static str,
        address: std::net::IpAddr,
        port: u16,
    },
    #[error("cannot listen on {address} for {what}")]
    Listen {
        what: &'static str,
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("cannot start the heartbeat thread")]
    Thread(#[source] std::io::Error),
}

impl NetError {
    fn of(what: &'static str, address: std::net::SocketAddr, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            Self::Taken {
                what,
                address: address.ip(),
                port: address.port(),
            }
        } else {
            Self::Listen {
                what,
                address,
                source,
            }
        }
    }
}
