//! The way to a server: its URL, TLS, and whichever address of its name answers (F02, RFC 8305). Opens no session.
//!
//! The driver connects to names by itself: one address after another, each for as long as the kernel tries. It takes no socket
//! of ours, and checks a certificate for the host that it was given. So where a name has several addresses, the driver is given
//! the name (for the certificate) and a socket of this process (`pipe.rs`). An address, and a name with one address, are
//! connected to as ever.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use super::DbError;
use super::pipe::Pipe;
use crate::config::{DatabaseSettings, Logins};
use crate::sys::dial::{DialError, Dialer};

/// How a server is reached: TLS where it offers it, verified where a CA is named.
///
/// # Errors
/// When the URL cannot be read, or a file of the TLS settings.
pub(super) fn options(
    settings: &DatabaseSettings,
    url: &str,
) -> Result<MySqlConnectOptions, DbError> {
    let mut options = of_url(url)?;
    // The driver would only say that some file is not there.
    let files = [
        ("ssl_ca", &settings.ssl_ca),
        ("ssl_cert", &settings.ssl_cert),
        ("ssl_key", &settings.ssl_key),
    ];
    for (setting, path) in files {
        if let Some(path) = path {
            std::fs::File::open(path).map_err(|source| DbError::TlsFile {
                setting,
                path: path.display().to_string(),
                source,
            })?;
        }
    }
    // A mode in the URL stands: it may ask for more than we do.
    let chosen = url.contains("ssl-mode=") || url.contains("sslmode=");
    if !chosen {
        options = options.ssl_mode(MySqlSslMode::Preferred);
    }
    if let Some(ca) = &settings.ssl_ca {
        options = options.ssl_ca(ca);
        if !chosen {
            options = options.ssl_mode(MySqlSslMode::VerifyCa);
        }
    }
    if let (Some(cert), Some(key)) = (&settings.ssl_cert, &settings.ssl_key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

/// The options of a URL that says all.
pub(super) fn of_administrator(url: &str) -> Result<MySqlConnectOptions, DbError> {
    let options = of_url(url)?;
    Ok(if url.contains("ssl-mode=") {
        options
    } else {
        options.ssl_mode(MySqlSslMode::Preferred)
    })
}

/// The options of a server's socket on this machine.
pub(super) fn of_socket(socket: &Path, user: &str) -> MySqlConnectOptions {
    ours(
        MySqlConnectOptions::new()
            .socket(socket)
            .username(user)
            .ssl_mode(MySqlSslMode::Disabled),
    )
}

fn of_url(url: &str) -> Result<MySqlConnectOptions, DbError> {
    let options = MySqlConnectOptions::from_str(url).map_err(|e| DbError::Url {
        url: crate::config::without_password(url),
        why: e.to_string(),
    })?;
    // F17: an IPv6 address stands in brackets in a URL, and without them in a socket address and a certificate.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    Ok(ours(options.host(&host)))
}

/// What the driver would set by itself is left to `session.rs`.
fn ours(options: MySqlConnectOptions) -> MySqlConnectOptions {
    options
        .set_names(false)
        .timezone(None)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        // The driver's own log of slow statements would quote them whole, message bodies and all.
        .disable_statement_logging()
}

/// A server, and how connections get there for as long as this lives.
#[derive(Debug)]
pub(super) struct Way {
    options: MySqlConnectOptions,
    /// As people may see it.
    shown: String,
    pipe: Option<Pipe>,
    /// Whom a refused password is told.
    logins: Logins,
}

impl Way {
    /// To a server of the setting.
    ///
    /// # Errors
    /// When the URL or a file of the TLS settings cannot be read, or nobody knows the name.
    pub(super) async fn to(settings: &DatabaseSettings, place: usize) -> Result<Self, DbError> {
        let way = Self::to_url(settings, &settings.url(place)).await?;
        let logins = settings.logins.clone();
        Ok(Self { logins, ..way })
    }

    /// The same with a password that is not in force.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub(super) async fn to_url(settings: &DatabaseSettings, url: &str) -> Result<Self, DbError> {
        let shown = crate::config::without_password(url);
        Self::by(options(settings, url)?, shown, settings.connect_timeout).await
    }

    /// The options with the password that is in force by now.
    ///
    /// # Errors
    /// As [`Self::to`], for the URL and the files.
    pub(super) fn renewed(
        &self,
        settings: &DatabaseSettings,
        place: usize,
    ) -> Result<MySqlConnectOptions, DbError> {
        Ok(through(
            self.pipe.as_ref(),
            options(settings, &settings.url(place))?,
        ))
    }

    /// The same, to whatever the options say.
    ///
    /// # Errors
    /// When nobody knows the name.
    pub(super) async fn by(
        options: MySqlConnectOptions,
        shown: String,
        within: Duration,
    ) -> Result<Self, DbError> {
        Self::through(&Dialer::system(), options, shown, within).await
    }

    async fn through(
        dialer: &Dialer,
        options: MySqlConnectOptions,
        shown: String,
        within: Duration,
    ) -> Result<Self, DbError> {
        let host = options.get_host();
        let itself = host.parse::<IpAddr>().is_ok() || host == "localhost";
        if itself || options.get_socket().is_some() {
            return Ok(Self::straight(options, shown));
        }
        let found = dialer.lookup(host, sooner(within)).await;
        let addresses = found.map_err(|error| of_dial(&shown, &error))?;
        let pipe = match addresses.len() {
            0 | 1 => None,
            _ => Some(Pipe::lay(dialer, host, options.get_port(), sooner(within))?),
        };
        Ok(Self {
            options: through(pipe.as_ref(), options),
            pipe,
            ..Self::straight(MySqlConnectOptions::new(), shown)
        })
    }

    fn straight(options: MySqlConnectOptions, shown: String) -> Self {
        Self {
            options,
            shown,
            pipe: None,
            logins: Logins::default(),
        }
    }

    pub(super) fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }

    /// What is behind an error of a connection that went this way.
    pub(super) fn explain(&self, error: sqlx::Error) -> DbError {
        if super::is_denied(&error) {
            self.logins.refused();
        }
        let behind = self.pipe.as_ref().and_then(Pipe::failed);
        match (&error, behind) {
            (sqlx::Error::Database(_), _) => error.into(),
            (_, Some(dial)) => of_dial(&self.shown, &dial),
            (sqlx::Error::Io(io), None) => match name_failure(io) {
                Some(why) => DbError::NameServer {
                    name: self.options.get_host().to_owned(),
                    why,
                },
                None if io.get_ref().is_none() => DbError::Unreachable {
                    url: self.shown.clone(),
                    why: io.to_string(),
                },
                None => error.into(),
            },
            _ => error.into(),
        }
    }

    /// Nothing came in time: which addresses were tried, where that is known.
    pub(super) fn silent(&self, within: Duration) -> DbError {
        match self.pipe.as_ref().and_then(Pipe::failed) {
            Some(dial) => of_dial(&self.shown, &dial),
            None => DbError::Unreachable {
                url: self.shown.clone(),
                why: format!("nothing came within {within:?}"),
            },
        }
    }
}

/// The options of connections that go that way.
fn through(pipe: Option<&Pipe>, options: MySqlConnectOptions) -> MySqlConnectOptions {
    match pipe {
        Some(pipe) => options.socket(pipe.path()),
        None => options,
    }
}

/// The C library's words for a name that it could not look up, in the only form in which they are handed on.
fn name_failure(error: &std::io::Error) -> Option<String> {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ")?;
    Some(why.to_owned())
}

/// A little less than who waits for it has, so that the reason is there first.
fn sooner(within: Duration) -> Duration {
    within * 8 / 10
}

/// A name that nobody knows is another fault than a server that does not answer, and mended elsewhere.
fn of_dial(shown: &str, error: &DialError) -> DbError {
    match error {
        DialError::NoAddress { name, why } => DbError::NoSuchName {
            name: name.clone(),
            why: why.clone(),
        },
        DialError::NotLookedUp { name, why } => DbError::NameServer {
            name: name.clone(),
            why: why.clone(),
        },
        DialError::Unreachable { .. } | DialError::Forbidden { .. } => DbError::Unreachable {
            url: shown.to_owned(),
            why: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;
    use crate::sys::dial::{Family, Found, Unresolved};

    fn dialer(found: impl Fn(Family) -> Found + Send + Sync + 'static) -> Dialer {
        type Asked = std::pin::Pin<Box<dyn Future<Output = Found> + Send>>;
        Dialer::with(Arc::new(move |_: &str, family| -> Asked {
            Box::pin(std::future::ready(found(family)))
        }))
    }

    async fn way(dialer: &Dialer, url: &str) -> Result<Way, DbError> {
        let options = of_url(url)?;
        let within = Duration::from_secs(5);
        Way::through(dialer, options, url.to_owned(), within).await
    }

    /// Goal: a dead name server is not told as a dead database, nor a wrong name as either. Method: what a resolver says.
    #[tokio::test]
    async fn a_name_that_nobody_knows_is_a_fault_of_its_own() {
        let says = |answered| {
            dialer(move |_| {
                let why = "it was asked".to_owned();
                Err(Unresolved { answered, why })
            })
        };
        let url = "mysql://wa@db.example/wa";
        let silent = way(&says(false), url).await.err().map(|e| e.brief());
        let silent = silent.expect("an error");
        assert!(
            silent.contains("name server") && silent.contains("db.example"),
            "{silent}"
        );
        assert!(!silent.contains("start that server"), "{silent}");
        let wrong = way(&says(true), url).await.err();
        assert!(
            matches!(wrong, Some(DbError::NoSuchName { .. })),
            "{wrong:?}"
        );
        // An address needs nobody who knows it.
        for url in ["mysql://wa@192.0.2.1/wa", "mysql://wa@[2001:db8::1]/wa"] {
            let straight = way(&says(false), url).await.expect("no lookup");
            assert!(straight.pipe.is_none());
            assert!(!straight.options.get_host().contains('['));
        }
    }
    /// Goal: what stands between is not seen: bytes come through whole and an end ends both; nobody who answers is named with
    /// its addresses. Method: an echo behind a name of two addresses, then nothing there.
    #[tokio::test]
    async fn a_name_of_several_addresses_goes_through_a_pipe() {
        let echo = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let port = echo.local_addr().expect("bound").port();
        let both = dialer(|family| match family {
            Family::Six => Err(Unresolved {
                answered: true,
                why: "none".into(),
            }),
            Family::Four => Ok(["127.0.0.2:0", "127.0.0.1:0"]
                .map(|a| a.parse::<SocketAddr>().expect("an address"))
                .to_vec()),
        });
        let way = way(&both, &format!("mysql://wa@db.example:{port}/wa"))
            .await
            .expect("a way");
        assert_eq!(way.options.get_host(), "db.example", "for the certificate");
        let path = way.options.get_socket().expect("a pipe").clone();
        let mut near = UnixStream::connect(&path).await.expect("connected");
        let (mut far, _) = echo.accept().await.expect("the address that listens");
        let sent = vec![7u8; 300_000];
        let (written, read) = tokio::join!(near.write_all(&sent), async {
            let mut read = vec![0; sent.len()];
            far.read_exact(&mut read).await.map(|_| read)
        });
        written.expect("written");
        assert_eq!(read.expect("read"), sent);
        far.write_all(b"end").await.expect("written");
        drop((far, echo));
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.expect("an end");
        assert_eq!(rest, b"end");
        let mut near = UnixStream::connect(&path).await.expect("connected");
        assert_eq!(near.read(&mut [0]).await.expect("an end"), 0);
        let error = way.explain(sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
        let error = error.brief();
        assert!(
            error.contains("127.0.0.1:") && error.contains("127.0.0.2:"),
            "{error}"
        );
    }
}
