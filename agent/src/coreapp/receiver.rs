//! The business's receiver: where it is, and one POST to it. Exactly 200 is success; redirects are not followed.
//! Decides nothing, and tries nothing twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body_util::Full;
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use crate::api::v1::setting;
use crate::config::Secret;
use crate::net::client::{CallError, OutsideClient};
use crate::net::public;
use crate::sys::dial::Permit;

/// The business must answer within this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Additional to the reference client: what the body is signed with, where a secret is set.
const SIGNATURE: &str = "x-wa-agent-signature";
/// What a refusal begins with that has a status.
const ANSWERED: &str = "answered ";

/// Where webhooks go: the URL without its user part, and that part as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
    authorization: Option<String>,
}

impl Target {
    /// Plain `http` is for receivers on this machine only.
    pub fn parse(text: &str) -> Option<Self> {
        let mut url = url::Url::parse(text).ok()?;
        url.host()?;
        if url.scheme() != "https" && !setting::in_the_clear(&url) {
            return None;
        }
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let authorization = (!user.is_empty() || !password.is_empty()).then(|| {
            // Byte by byte: a password need not be UTF-8.
            let mut pair: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
            pair.push(b':');
            pair.extend(percent_encoding::percent_decode_str(password));
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {pair}")
        });
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Some(Self {
            url: url.into(),
            authorization,
        })
    }
}

/// Why a webhook was not delivered.
pub enum Refused {
    /// There was no connection: not one byte left.
    Unreached(String),
    Failed(String),
}

impl Refused {
    /// How the request ended, for the figures.
    pub fn result(&self) -> &str {
        match self {
            Self::Unreached(_) => "unreachable",
            Self::Failed(why) => status_in(why),
        }
    }
}

/// Which addresses webhooks may go to: those of the internet and of the own network. This machine, link-local addresses and what clouds
/// tell their machines only where the host is written down: whoever may change the settings of the API shall not reach these by it.
/// An address that is written down itself is meant. `development`: this machine is fine.
pub fn permit(hosts: Vec<String>, development: bool) -> Permit {
    Arc::new(move |host: &str, address: IpAddr| {
        let plain = |host: &str| host.trim_matches(['[', ']']).to_ascii_lowercase();
        let listed = hosts.iter().any(|one| plain(one) == plain(host));
        let itself = listed && plain(host).parse::<IpAddr>().is_ok();
        let own = address.to_canonical().is_loopback() && !listed && !development;
        let what = match own {
            true => Some("an address of this machine"),
            false => public::never(address).filter(|_| !itself),
        };
        what.map_or(Ok(()), |what| {
            Err(format!(
                "{address} is {what}; if the receiver is meant to be there, write {} into [webhooks] hosts and restart the coreapps",
                plain(host)
            ))
        })
    })
}

/// The number of the status that a refusal names; `failed` for one that names none.
fn status_in(why: &str) -> &str {
    let rest = why.strip_prefix(ANSWERED);
    rest.and_then(|rest| rest.get(..3)).unwrap_or("failed")
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal; `None`: no secret is set.
fn signature(secret: &Secret, body: &str) -> Option<String> {
    let secret = secret.now();
    let secret = secret.expose_secret().as_bytes();
    if secret.is_empty() {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key length");
    mac.update(body.as_bytes());
    Some(format!(
        "sha256={}",
        hex::encode(mac.finalize().into_bytes())
    ))
}

/// One POST, signed if there is a secret.
pub async fn post(
    client: &OutsideClient,
    target: &Target,
    secret: &Secret,
    body: &str,
) -> Result<(), Refused> {
    let mut request = Request::post(&target.url)
        .header("content-type", "application/json")
        .header("user-agent", "wa-agent");
    if let Some(authorization) = &target.authorization {
        request = request.header("authorization", authorization);
    }
    if let Some(signature) = signature(secret, body) {
        request = request.header(SIGNATURE, signature);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .map_err(|error| Refused::Failed(error.to_string()))?;
    match client.call(request, ANSWER_MAX).await {
        Ok(answer) if answer.status() == http::StatusCode::OK => Ok(()),
        Ok(answer) => Err(Refused::Failed(format!("{ANSWERED}{}", answer.status()))),
        Err(error @ (CallError::Connect(_) | CallError::Forbidden(_))) => {
            Err(Refused::Unreached(error.to_string()))
        }
        Err(error @ (CallError::Broken(_) | CallError::Deadline(_))) => {
            Err(Refused::Failed(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a changed setting leads no webhook to this machine, its neighbours on the link, or what the cloud tells it; what is written
    /// down is meant. Method: addresses in each spelling, with hosts listed by name and by address, and for development.
    #[test]
    fn webhooks_go_to_no_inner_place_unasked() {
        let hosts = ["Relay.Example", "[::1]", "169.254.7.7"].map(String::from);
        let (usual, development) = (permit(hosts.into(), false), permit(Vec::new(), true));
        for (host, address, by_list, for_development) in [
            ("business.example", "198.51.100.7", true, true),
            ("business.example", "10.0.0.7", true, true),
            ("business.example", "fd12::7", true, true),
            ("business.example", "127.0.0.1", false, true),
            ("business.example", "::1", false, true),
            ("business.example", "::ffff:127.0.0.1", false, true),
            ("business.example", "169.254.169.254", false, false),
            ("business.example", "::ffff:169.254.169.254", false, false),
            ("business.example", "fd00:ec2::254", false, false),
            ("business.example", "fe80::1", false, false),
            ("business.example", "0.0.0.0", false, false),
            ("relay.example", "127.0.0.1", true, true),
            ("relay.example", "169.254.169.254", false, false),
            ("[::1]", "::1", true, true),
            ("169.254.7.7", "169.254.7.7", true, false),
            ("169.254.169.254", "169.254.169.254", false, false),
        ] {
            let address = address.parse().expect(address);
            let found = (usual(host, address), development(host, address));
            let may = (found.0.is_ok(), found.1.is_ok());
            assert_eq!(
                may,
                (by_list, for_development),
                "{host} {address}: {found:?}"
            );
            if let Err(why) = found.0 {
                assert!(why.contains("[webhooks] hosts"), "{why}");
            }
        }
    }

    /// Goal: no webhook travels in the clear, except to this machine.
    #[test]
    fn only_https_or_loopback() {
        assert!(Target::parse("https://business.example/hook").is_some());
        assert!(Target::parse("http://127.0.0.1:8000/hook").is_some());
        assert!(Target::parse("http://[::1]:8000/hook").is_some());
        assert!(Target::parse("http://localhost/hook").is_some());
        for refused in [
            "http://business.example/",
            "http://localhost.example/",
            "ftp://127.0.0.1/",
            "",
            "hook",
        ] {
            assert_eq!(Target::parse(refused), None, "{refused}");
        }
    }

    /// Goal: the user part becomes a header in every spelling, and never stays in the URL.
    #[test]
    fn the_user_part_becomes_a_header() {
        for (user_part, pair) in [
            ("ann:p%40ss", &b"ann:p@ss"[..]),
            ("ann", b"ann:"),
            ("ann:", b"ann:"),
            (":p", b":p"),
            ("a%3An:p", b"a:n:p"),
            ("ann:p@ss", b"ann:p@ss"),
            ("ann:p:s", b"ann:p:s"),
            ("ann%40shop.example:p%2Fs%3f", b"ann@shop.example:p/s?"),
            ("%C3%A9:%E9", b"\xC3\xA9:\xE9"),
            ("\u{e9}:100%", b"\xC3\xA9:100%"),
            ("ann:a+b", b"ann:a+b"),
        ] {
            let text = format!("https://{user_part}@business.example/hook?a=b#part");
            let target = Target::parse(&text).expect(user_part);
            assert_eq!(target.url, "https://business.example/hook?a=b");
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            let header = format!("Basic {pair}");
            assert_eq!(target.authorization, Some(header), "{user_part}");
        }
        for without in ["", "@", ":@"] {
            let text = format!("https://{without}business.example/hook");
            let target = Target::parse(&text).expect(without);
            assert_eq!(target.authorization, None, "{without}");
            assert_eq!(target.url, "https://business.example/hook");
        }
    }

    /// Goal: a receiver can check the signature with any HMAC. Method: the example of RFC 4231, test case 2, and one made with
    /// openssl dgst -hmac; a new secret counts for the next webhook.
    #[test]
    fn a_body_is_signed_with_the_secret_in_force() {
        let secret = Secret::new("Jefe".into());
        assert_eq!(
            signature(&secret, "what do ya want for nothing?").as_deref(),
            Some("sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
        assert!(secret.replace("another"));
        assert_eq!(
            signature(&secret, "{}").as_deref(),
            Some("sha256=1bf5074408c77a095d120b888576ae6aea70cf8416d33f8080f4514d752ff1fa")
        );
        assert_eq!(signature(&Secret::new(String::new()), "{}"), None);
    }

    #[test]
    fn a_refusal_names_its_status() {
        assert_eq!(status_in("answered 503 Service Unavailable"), "503");
        assert_eq!(status_in("no answer in 20s"), "failed");
    }
}
