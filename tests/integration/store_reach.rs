//! F17, F02. Goal: a server is reached by an IPv6 address, and by a name of which one address is dead, with the certificate
//! checked for the name all the same. Method: a private MariaDB; listeners whose queue is full stand for dead addresses; names
//! come from a hosts file that only the test's own process sees (root).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use wa_agent::config::DatabaseSettings;
use wa_agent::db::Db;
use wa_agent::db::lease::LeaseConnection;
use wa_agent::db::server::Admin;
use wa_core::id::{Incarnation, NodeId};

use crate::mariadb::{self, Server};
use crate::store::{create_database, settings};
use crate::store_tls;

/// One connection of each kind.
async fn every_kind(settings: &DatabaseSettings) -> Result<(), String> {
    let db = Db::connect(settings, 2).await.map_err(|e| e.brief())?;
    db.ensure_lease_table().await.map_err(|e| e.brief())?;
    let incarnation = Incarnation {
        counter: 1,
        random: 1,
    };
    let node = NodeId::new("m1:master-1");
    let within = Duration::from_secs(2);
    let mut lease = LeaseConnection::new(settings.clone(), within, node, incarnation);
    lease.snapshot().await.map_err(|e| e.brief())?;
    let url = settings.urls.last().ok_or("no URL")?;
    let url = url.rsplit_once('/').ok_or("no database")?.0;
    Admin::by_url(url).await.map_err(|e| e.brief())?;
    Ok(())
}

/// Goal: F17. An IPv6 address in the URL, as in any other URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_ipv6_address_in_the_url() {
    if TcpListener::bind("[::1]:0").is_err() {
        return crate::skipped("a database at an IPv6 address", "there is no ::1 here");
    }
    let more = vec!["--bind-address=127.0.0.1,::1".to_owned()];
    let server = tokio::task::block_in_place(|| {
        mariadb::directory().and_then(|directory| Server::start_in(directory, more))
    });
    let server = match server {
        Ok(server) => server,
        Err(why) => return crate::skipped("a database at an IPv6 address", &why),
    };
    let url = create_database(&server.url("")).await;
    let url = url.replace("127.0.0.1", "[::1]");
    assert!(url.contains("[::1]:"), "{url}");
    assert_eq!(every_kind(&settings(vec![url.clone()])).await, Ok(()));
    let dead = "mysql://root@[::1]:1/wa".to_owned();
    assert_eq!(
        every_kind(&settings(vec![dead, url])).await.err(),
        None::<String>
    );
}

/// An address that answers no SYN: its queue is full.
struct Dead {
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

fn dead(at: SocketAddr) -> Dead {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("reused");
    if at.is_ipv6() {
        socket.set_only_v6(true).expect("one family");
    }
    socket.bind(&SockAddr::from(at)).expect("a port");
    socket.listen(0).expect("listening");
    let mut queued = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&at, Duration::from_millis(200)) {
        queued.push(one);
        assert!(queued.len() < 64, "the queue of {at} is never full");
    }
    Dead {
        _listener: socket,
        _queued: queued,
    }
}

const CHILD_URLS: &str = "WA_TEST_REACH_URLS";
const CHILD_CA: &str = "WA_TEST_REACH_CA";

/// Not a test of its own: what the test below starts, in a mount namespace with names of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_reaches() {
    let Ok(urls) = std::env::var(CHILD_URLS) else {
        return;
    };
    let mut faults = Vec::new();
    for url in urls.split(' ') {
        let (good, url) = (!url.starts_with('!'), url.trim_start_matches('!'));
        let mut settings = settings(vec![url.to_owned()]);
        settings.connect_timeout = Duration::from_secs(3);
        settings.ssl_ca = std::env::var_os(CHILD_CA).map(Into::into);
        match (good, every_kind(&settings).await) {
            (true, Err(why)) => faults.push(format!("{url}: {why}")),
            (false, Ok(())) => faults.push(format!("{url}: was trusted")),
            (false, Err(why)) => println!("as it must be: {url}: {why}"),
            (true, Ok(())) => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Runs the child with these names.
fn with_names(hosts: &Path, urls: &[String], ca: &Path) -> Result<(), String> {
    let script = "mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"";
    let done = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().map_err(|e| e.to_string())?)
        .args(["--exact", "store_reach::child_reaches", "--nocapture"])
        .env("HOSTS", hosts)
        .env(CHILD_URLS, urls.join(" "))
        .env(CHILD_CA, ca)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    Err(String::from_utf8_lossy(&said).into_owned())
}

/// Goal: F02. One dead address of a name is no outage, and a name is checked as if its address stood there. Method: a name
/// with a dead address of IPv6, one with a dead first address of IPv4, one that the certificate does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_a_name_with_a_dead_address() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("a database name with a dead address", &why);
    }
    if !nix::unistd::geteuid().is_root() {
        return crate::skipped("a database name with a dead address", "not root");
    }
    let names = ["six.test", "four.test", "last.test", "127.0.0.1"];
    let server = tokio::task::block_in_place(|| store_tls::server_for(&names, false));
    let url = create_database(&server.url("")).await;
    let (_, name) = url.rsplit_once('/').expect("a database");
    let at = |address: &str| SocketAddr::new(address.parse().expect("an address"), server.port);
    let _dead = [dead(at("127.0.0.2")), dead(at("::1"))];
    let hosts = server.path("hosts");
    let lines = "127.0.0.1 localhost\n::1 six.test\n127.0.0.1 six.test\n127.0.0.2 four.test\n127.0.0.1 four.test\n127.0.0.1 last.test\n127.0.0.2 last.test\n\
                 127.0.0.2 other.test\n127.0.0.1 other.test\n";
    std::fs::write(&hosts, lines).expect("written");
    let port = server.port;
    let identity = "ssl-mode=VERIFY_IDENTITY";
    let urls = [
        format!("mysql://root@six.test:{port}/{name}"),
        format!("mysql://root@four.test:{port}/{name}"),
        format!("mysql://root@last.test:{port}/{name}"),
        format!("mysql://root@six.test:{port}/{name}?{identity}"),
        format!("mysql://root@four.test:{port}/{name}?{identity}"),
        format!("!mysql://root@other.test:{port}/{name}?{identity}"),
    ];
    let ca = server.path("ca.pem");
    let done = tokio::task::block_in_place(|| with_names(&hosts, &urls, &ca));
    assert_eq!(done, Ok(()));
}
