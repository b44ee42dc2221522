//! Links against servers on loopback addresses. 127.0.0.1 plays the internet, 127.0.0.2 the inside of a network; names come
//! from a table in place of a name server.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Ownership, ShardId};

use super::*;
use crate::coreapp::gate::Gate;
use crate::coreapp::tests::upstream_settings;
use crate::media::ogg::tests::opus;
use crate::net::roots::Roots;
use crate::sys::dial::{Dialer, Family, Resolver, Unresolved};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PNG: &str = "image/png";

/// A resolver that answers a name's lists one after the other, the last one for ever.
fn names(table: &[(&str, &[&[IpAddr]])]) -> Resolver {
    let own = |lists: &[&[IpAddr]]| lists.iter().map(|list| list.to_vec()).collect::<Vec<_>>();
    let table: BTreeMap<String, Vec<Vec<IpAddr>>> = table
        .iter()
        .map(|(name, lists)| ((*name).to_owned(), own(lists)))
        .collect();
    let asked: Mutex<BTreeMap<String, usize>> = Mutex::default();
    Arc::new(move |name: &str, family: Family| {
        let none = || Unresolved {
            answered: true,
            why: "no such name".into(),
        };
        let found = match (table.get(name), family) {
            (Some(lists), Family::Four) => {
                let mut asked = asked.lock().expect("no panic before");
                let times = asked.entry(name.to_owned()).or_default();
                let list = &lists[(*times).min(lists.len() - 1)];
                *times += 1;
                Ok(list.iter().map(|a| SocketAddr::new(*a, 0)).collect())
            }
            (Some(_) | None, _) => Err(none()),
        };
        Box::pin(std::future::ready(found))
    })
}

fn upstream(resolver: Resolver, permit: Permit) -> (Arc<Gate>, Upstream) {
    let own = Ownership {
        shard: ShardId(0),
        epoch: Epoch(1),
        grant: Grant(1),
        owner: NodeId::new("t:coreapp-1"),
        incarnation: Incarnation {
            counter: 1,
            random: 1,
        },
    };
    let gate = Arc::new(Gate::shut_both(false));
    gate.open(Epoch(1), clock::now() + Duration::from_secs(60));
    let settings = upstream_settings(SocketAddr::new(OUTSIDE, 9));
    let dialer = Dialer::with(resolver).permitting(permit);
    let roots = Roots::with(&[]);
    let upstream = Upstream::new(&settings, &roots, dialer, Arc::clone(&gate), own);
    (gate, upstream)
}

/// As the real one, with loopback addresses in the parts.
fn played() -> Permit {
    Arc::new(|_: &str, address: IpAddr| match address.to_canonical() {
        OUTSIDE => Ok(()),
        _ => Err("private".into()),
    })
}

/// What a server has seen: path and credentials.
#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    asked: Mutex<Vec<(String, Option<String>)>>,
    port: AtomicUsize,
}

type Server = Arc<Seen>;

/// Answers as the path says.
async fn answer(
    State(seen): State<Server>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    seen.calls.fetch_add(1, Ordering::AcqRel);
    let shown = headers.get("authorization");
    let shown = shown.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    seen.asked
        .lock()
        .expect("no panic before")
        .push((path.clone(), shown));
    let (verb, rest) = path.split_once('/').unwrap_or((&path, ""));
    let redirect = |to: String| {
        (
            StatusCode::FOUND,
            [("location", to), ("connection", "close".into())],
        )
    };
    match verb {
        "hops" => match rest.parse::<u32>().expect("a number") {
            0 => ([("content-type", PNG)], "png").into_response(),
            more => redirect(format!("/hops/{}", more - 1)).into_response(),
        },
        "to" => redirect(format!("http://{rest}")).into_response(),
        "status" => {
            let status = StatusCode::from_u16(rest.parse().expect("a number"));
            status.expect("a status").into_response()
        }
        "type" => ([("content-type", rest.to_owned())], "bytes").into_response(),
        "long" => {
            let body = "x".repeat(rest.parse().expect("a number"));
            ([("content-type", PNG)], body).into_response()
        }
        "unmeasured" => {
            let chunks = rest.parse::<usize>().expect("a number");
            let chunks = stream::iter(
                (0..chunks).map(|_| Ok::<_, io::Error>(Bytes::from(vec![1; 1 << 20]))),
            );
            ([("content-type", PNG)], Body::from_stream(chunks)).into_response()
        }
        "gzip" => ([("content-type", PNG), ("content-encoding", "gzip")], "x").into_response(),
        "voice" => {
            let channels = rest.parse().expect("a number");
            ([("content-type", "audio/ogg")], opus(channels)).into_response()
        }
        "bare" => "bytes".as_bytes().to_vec().into_response(),
        other => panic!("{other}"),
    }
}

async fn serve(at: IpAddr) -> (Server, u16) {
    serve_at(SocketAddr::new(at, 0)).await
}

async fn serve_at(at: SocketAddr) -> (Server, u16) {
    let listener = TcpListener::bind(at).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let seen = Server::default();
    seen.port.store(port.into(), Ordering::Release);
    let router = Router::new().route("/{*path}", get(answer));
    let router = router.with_state(Arc::clone(&seen));
    let stop = CancellationToken::new();
    tokio::spawn(crate::net::server::serve(listener, router, stop));
    (seen, port)
}

async fn fetch(upstream: &Upstream, kind: MediaKind, link: &str) -> Result<Found, Trouble> {
    let wanted = Wanted {
        kind,
        link,
        authorization: None,
        name: None,
    };
    open(upstream, &wanted).await
}

async fn whole(found: Found) -> Result<Vec<u8>, io::Error> {
    use futures_util::TryStreamExt as _;
    let chunks: Vec<Bytes> = found.into_body().try_collect().await?;
    Ok(chunks.concat())
}

fn never(found: Result<Found, Trouble>, words: &str) {
    match found {
        Err(Trouble::Never(why)) => assert!(why.contains(words), "{why}"),
        Err(other) => panic!("{words}: {other:?}"),
        Ok(_) => panic!("{words}: fetched"),
    }
}

fn again(found: Result<Found, Trouble>) {
    assert!(matches!(found, Err(Trouble::Again(_))), "{:?}", found.err());
}

/// Goal: five redirects are followed, six are not; and none from https to http, or off the web. Method: a chain; headers.
#[tokio::test]
async fn at_most_five_redirects_are_followed() {
    let (server, port) = serve(OUTSIDE).await;
    let (_gate, upstream) = upstream(names(&[]), played());
    let link = |hops: u32| format!("http://127.0.0.1:{port}/hops/{hops}");
    let found = fetch(&upstream, MediaKind::Image, &link(5))
        .await
        .expect("found");
    assert_eq!((found.media_type.as_str(), found.length), (PNG, 3));
    assert_eq!(whole(found).await.expect("whole"), b"png");
    server.calls.store(0, Ordering::Release);
    never(
        fetch(&upstream, MediaKind::Image, &link(6)).await,
        "5 redirects",
    );
    assert_eq!(server.calls.load(Ordering::Acquire), 6);
    let from = Url::parse("https://a.example/b/c").expect("a URL");
    let to = |location: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().expect("a header"));
        redirected(&from, &headers)
    };
    assert_eq!(
        to("/d?e").expect("followed").as_str(),
        "https://a.example/d?e"
    );
    assert_eq!(
        to("//f.example/").expect("followed").as_str(),
        "https://f.example/"
    );
    for bad in [
        "http://a.example/b",
        "file:///etc/passwd",
        "ftp://a.example/",
        "http://[",
    ] {
        assert!(matches!(to(bad), Err(Trouble::Never(_))), "{bad}");
    }
    assert!(redirected(&from, &HeaderMap::new()).is_err());
}

/// Goal: no server on the internet leads us inside. Method: redirects to a name and to addresses in every spelling, all of them
/// of a server inside that must never hear of it; names with addresses of both sorts.
#[tokio::test]
async fn no_hop_leads_inside() {
    let (_server, port) = serve(OUTSIDE).await;
    let (inside, secret) = serve(INSIDE).await;
    let table: &[(&str, &[&[IpAddr]])] = &[
        ("inside.test", &[&[INSIDE]]),
        ("both.test", &[&[INSIDE, OUTSIDE]]),
    ];
    let (_gate, upstream) = upstream(names(table), played());
    let hosts = [
        "inside.test",
        "127.0.0.2",
        "2130706434",
        "0x7f.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "user:pw@127.0.0.2",
    ];
    for host in hosts {
        let to = format!("http://127.0.0.1:{port}/to/{host}:{secret}/hops/0");
        never(fetch(&upstream, MediaKind::Image, &to).await, "public");
        let straight = format!("http://{host}:{secret}/hops/0");
        never(
            fetch(&upstream, MediaKind::Image, &straight).await,
            "public",
        );
    }
    let both = format!("http://both.test:{port}/hops/0");
    assert!(fetch(&upstream, MediaKind::Image, &both).await.is_ok());
    assert_eq!(inside.calls.load(Ordering::Acquire), 0);
}

/// Goal: an address counts when it is connected to, not when it was looked up before. Method: a name that is outside when it is
/// first asked for, and inside from then on.
#[tokio::test]
async fn a_name_that_moves_inside_is_not_followed() {
    let (inside, port) = serve(INSIDE).await;
    let (outside, _) = serve_at(SocketAddr::new(OUTSIDE, port)).await;
    let table: &[(&str, &[&[IpAddr]])] = &[("moves.test", &[&[OUTSIDE], &[INSIDE]])];
    let (_gate, upstream) = upstream(names(table), played());
    let link = format!("http://moves.test:{port}/to/moves.test:{port}/hops/0");
    never(fetch(&upstream, MediaKind::Image, &link).await, "public");
    assert_eq!(outside.calls.load(Ordering::Acquire), 1);
    assert_eq!(inside.calls.load(Ordering::Acquire), 0);
}

/// Goal: hosts that an operator lists may be inside, others not, and the inside of a cloud is nobody's. Method: the real rule.
#[test]
fn only_listed_hosts_may_be_inside() {
    let permit = permit(vec!["files.intranet".into(), "[fd12::7]".into()]);
    let may =
        |host: &str, address: &str| permit(host, address.parse().expect("an address")).is_ok();
    assert!(may("files.intranet", "10.0.0.7") && may("FILES.intranet", "127.0.0.1"));
    assert!(may("fd12::7", "fd12::7"));
    assert!(!may("files.intranet", "169.254.169.254") && !may("files.intranet", "fe80::1"));
    assert!(!may("evil.example", "10.0.0.7") && !may("evil.example", "::ffff:10.0.0.7"));
    assert!(!may("10.0.0.7", "10.0.0.7"));
    assert!(may("files.example", "93.184.215.14"));
}

/// Goal: credentials are shown to the link's own origin and to nobody else, not even to it once somebody else has led there;
/// those in a link count too. Method: two servers that lead to each other.
#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let (one, port) = serve(OUTSIDE).await;
    let (two, other) = serve(OUTSIDE).await;
    let (_gate, upstream) = upstream(names(&[]), played());
    let link = format!(
        "http://127.0.0.1:{port}/to/127.0.0.1:{port}/to/127.0.0.1:{other}/to/127.0.0.1:{port}/hops/0"
    );
    let wanted = Wanted {
        kind: MediaKind::Image,
        link: &link,
        authorization: Some(HeaderValue::from_static("Bearer secret")),
        name: None,
    };
    assert!(open(&upstream, &wanted).await.is_ok());
    let shown = |server: &Server| {
        let asked = std::mem::take(&mut *server.asked.lock().expect("no panic before"));
        asked
            .into_iter()
            .map(|(_, shown)| shown)
            .collect::<Vec<_>>()
    };
    let bearer = || Some("Bearer secret".to_owned());
    assert_eq!(shown(&one), [bearer(), bearer(), None]);
    assert_eq!(shown(&two), [None]);
    let link = format!("http://us%40er:p%3Aw@127.0.0.1:{port}/hops/0#part");
    assert!(fetch(&upstream, MediaKind::Image, &link).await.is_ok());
    // us@er:p:w
    assert_eq!(shown(&one), [Some("Basic dXNAZXI6cDp3".to_owned())]);
}

/// Goal: what cannot be sent is not fetched to its end, and said to be so for good; what may pass is tried again. Method: a
/// server that answers each of them.
#[tokio::test]
async fn refusals_are_told_from_what_passes() {
    let (_server, port) = serve(OUTSIDE).await;
    let (_gate, upstream) = upstream(names(&[]), played());
    let get = async |kind, path: &str| {
        fetch(&upstream, kind, &format!("http://127.0.0.1:{port}/{path}")).await
    };
    let image = MediaKind::Image;
    for status in [400, 401, 403, 404, 410, 304, 204, 206] {
        never(
            get(image, &format!("status/{status}")).await,
            &status.to_string(),
        );
    }
    for status in [408, 425, 429, 500, 503] {
        again(get(image, &format!("status/{status}")).await);
    }
    never(
        get(image, "type/text/html; charset=utf-8").await,
        "type text/html",
    );
    never(get(image, "long/5000001").await, "5000001 bytes");
    never(get(image, "long/0").await, "empty");
    never(get(image, "gzip").await, "compressed");
    never(get(image, "unmeasured/6").await, "more than 5000000 bytes");
    let unmeasured = get(image, "unmeasured/2").await.expect("short enough");
    assert_eq!(unmeasured.length, 2 << 20);
    assert_eq!(whole(unmeasured).await.expect("whole").len(), 2 << 20);
    let long = get(image, "long/4000000").await.expect("short enough");
    assert_eq!(
        (long.length, whole(long).await.expect("whole").len()),
        (4_000_000, 4_000_000)
    );
    let listener = TcpListener::bind((OUTSIDE, 0)).await.expect("bound");
    let closed = listener.local_addr().expect("bound");
    drop(listener);
    again(fetch(&upstream, image, &format!("http://{closed}/a.png")).await);
    again(fetch(&upstream, image, "http://nobody.test/a.png").await);
}

/// Goal: a type that says nothing is taken from the ending; a voice message is looked into. Method: the same server.
#[tokio::test]
async fn types_come_from_the_server_or_the_name() {
    let (_server, port) = serve(OUTSIDE).await;
    let (_gate, upstream) = upstream(names(&[]), played());
    let get = async |kind, path: &str, name| {
        let link = format!("http://127.0.0.1:{port}/{path}");
        let wanted = Wanted {
            kind,
            link: &link,
            authorization: None,
            name,
        };
        open(&upstream, &wanted).await
    };
    let kind =
        |found: Result<Found, Trouble>| found.map(|found| found.media_type.as_str().to_owned());
    let (document, voice) = (MediaKind::Document, MediaKind::Voice);
    let found = get(document, "type/image/jpeg; charset=x", Some("a.pdf")).await;
    assert_eq!(kind(found), Ok("image/jpeg".into()));
    assert_eq!(
        kind(get(document, "bare", Some("a.pdf")).await),
        Ok("application/pdf".into())
    );
    assert_eq!(
        kind(get(MediaKind::Image, "bare/a.png?b.gif", None).await),
        Ok(PNG.into())
    );
    assert_eq!(
        kind(get(document, "bare", None).await),
        Ok("application/octet-stream".into())
    );
    never(
        get(MediaKind::Image, "bare", None).await,
        "application/octet-stream",
    );
    assert_eq!(
        kind(get(voice, "voice/1", None).await),
        Ok("audio/ogg; codecs=opus".into())
    );
    assert_eq!(
        kind(get(MediaKind::Audio, "voice/2", None).await),
        Ok("audio/ogg; codecs=opus".into())
    );
    never(get(voice, "voice/2", None).await, "2 channels");
    never(get(voice, "type/audio/ogg", None).await, "not Opus");
}

/// Goal: a body that ends early, or stops, breaks off what is made of it, and is known to be the link's fault. Method: a server
/// that announces more than it sends; once it closes, once it hangs.
#[tokio::test]
async fn a_body_that_breaks_off_is_tried_again() {
    let listener = TcpListener::bind((OUTSIDE, 0)).await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let mut held = Vec::new();
        for hang in [false, true] {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await.expect("read");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("written");
            stream.write_all(&[1; 5000]).await.expect("written");
            if hang {
                held.push(stream);
            }
        }
        held
    });
    let (_gate, upstream) = upstream(names(&[]), played());
    let link = format!("http://{at}/a.png");
    for hang in [false, true] {
        let mut found = fetch(&upstream, MediaKind::Image, &link)
            .await
            .expect("begun");
        let broke = found.broke();
        if hang {
            found.patience = Duration::from_millis(100);
        }
        assert!(whole(found).await.is_err());
        assert!(matches!(broke.get(), Some(Trouble::Again(_))), "{broke:?}");
    }
    drop(server.await.expect("no panic"));
}

/// Goal: a tenure that is over fetches nothing, and its connections end. Method: the gate shuts; the clients are dropped.
#[tokio::test]
async fn links_end_with_the_tenure() {
    let (server, port) = serve(OUTSIDE).await;
    let (gate, upstream) = upstream(names(&[]), played());
    let link = format!("http://127.0.0.1:{port}/hops/0");
    let found = fetch(&upstream, MediaKind::Image, &link)
        .await
        .expect("found");
    assert!(!upstream.closed());
    gate.shut(Epoch(1));
    let shut = fetch(&upstream, MediaKind::Image, &link).await;
    assert_eq!(shut.err(), Some(Trouble::Shut));
    assert_eq!(server.calls.load(Ordering::Acquire), 1);
    drop(found);
    upstream.abort();
    while !upstream.closed() {
        clock::sleep(Duration::from_millis(1)).await;
    }
}

/// Goal: a file counts as the same for as long as its server says. Method: headers as servers send them.
#[test]
fn files_are_kept_as_cache_control_says() {
    let kept = |rows: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(*name, value.parse().expect("a header"));
        }
        keep(&headers).as_secs()
    };
    assert_eq!(kept(&[]), 600);
    assert_eq!(kept(&[("cache-control", "max-age=60")]), 60);
    assert_eq!(
        kept(&[("cache-control", "public, max-age=60"), ("age", "20")]),
        40
    );
    assert_eq!(kept(&[("cache-control", "max-age=60"), ("age", "90")]), 0);
    assert_eq!(kept(&[("cache-control", "no-store")]), 0);
    assert_eq!(kept(&[("cache-control", "no-cache, max-age=60")]), 0);
    assert_eq!(kept(&[("cache-control", "public")]), 600);
}
