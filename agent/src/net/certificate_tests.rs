//! Tests of certificates that are sent: each thing that can be wrong is told by its name, and what is good is taken.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

/// In the middle of 2026.
const NOW_S: i64 = 1_781_000_000;

/// An authority, and its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> Authority {
    let mut params = params(name, (2020, 2040));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = key();
    let pem = params.self_signed(&key).expect("made").pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    /// A server's certificate, and its key.
    fn server(&self, years: (i32, i32)) -> (String, String) {
        let key = key();
        let made = params("api.example", years).signed_by(&key, &self.issuer);
        (made.expect("made").pem(), key.serialize_pem())
    }
}

fn wrong(text: &str) -> Wrong {
    match served(text.as_bytes(), NOW_S) {
        Err(wrong) => wrong,
        Ok(_) => panic!("taken: {text}"),
    }
}

/// Goal: a certificate, its chain and its key are taken in the ways in which people write them. Method: the key in front, in the
/// middle, behind; words between the sections; a byte order mark; Windows' ends of lines; without the authority.
#[test]
fn a_good_chain_is_taken_however_it_is_written() {
    let authority = authority("Example CA");
    let (server, key) = authority.server((2026, 2027));
    let ca = &authority.pem;
    for text in [
        format!("{server}{ca}{key}"),
        format!("{key}{server}{ca}"),
        format!("{server}{key}{ca}"),
        format!("Bag Attributes: x\n{server}\n\n# the chain\n{ca}\n{key}"),
        format!("\u{feff}{server}{ca}{key}"),
        format!("{server}{ca}{key}").replace('\n', "\r\n"),
    ] {
        let taken =
            served(text.as_bytes(), NOW_S).unwrap_or_else(|wrong| panic!("{wrong}: {text}"));
        let chain = of_text(&taken.chain);
        assert_eq!(chain.len(), 2, "{text}");
        assert_eq!(taken.key.replace('\n', ""), key.replace(['\r', '\n'], ""));
        assert_eq!(
            authority_of(&chain).map(|ca| of_text(&ca)),
            Some(of_text(ca))
        );
    }
    let alone = served(format!("{server}{key}").as_bytes(), NOW_S).expect("taken");
    assert_eq!(authority_of(&of_text(&alone.chain)), None);
    let own = params("api.example", (2026, 2027));
    let pair = super::tests::key();
    let own = own.self_signed(&pair).expect("made").pem();
    let taken = served(format!("{own}{}", pair.serialize_pem()).as_bytes(), NOW_S);
    let chain = of_text(&taken.expect("taken").chain);
    assert!(authority_of(&chain).is_some(), "it vouches for itself");
}

/// Goal: whoever sends something that cannot be served is told what is wrong with it. Method: one fault each.
#[test]
fn what_is_wrong_is_told_by_name() {
    let (one, other) = (authority("Example CA"), authority("Other CA"));
    let (server, key) = one.server((2026, 2027));
    let (stranger, other_key) = other.server((2026, 2027));
    let (late, late_key) = one.server((2024, 2025));
    let (early, early_key) = one.server((2027, 2028));
    let ca = &one.pem;
    assert_eq!(wrong(""), Wrong::NotPem);
    assert_eq!(wrong("{}"), Wrong::NotPem);
    assert_eq!(
        wrong("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n"),
        Wrong::NotPem
    );
    assert_eq!(wrong(&key), Wrong::NoCertificate);
    assert_eq!(wrong(&format!("{server}{ca}")), Wrong::NoKey);
    assert_eq!(
        wrong(&format!("{server}{key}{other_key}")),
        Wrong::ManyKeys(2)
    );
    let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(wrong(&format!("{server}{sealed}")), Wrong::Encrypted);
    assert!(matches!(
        wrong(&format!("{server}{ca}{other_key}")),
        Wrong::Fit(_)
    ));
    assert!(matches!(
        wrong(&format!("{late}{ca}{late_key}")),
        Wrong::Expired { at: 1, .. }
    ));
    assert!(matches!(
        wrong(&format!("{early}{ca}{early_key}")),
        Wrong::Early { at: 1, .. }
    ));
    let order = wrong(&format!("{server}{stranger}{key}"));
    assert!(matches!(order, Wrong::Order { at: 1, .. }), "{order}");
    assert!(order.to_string().contains("Example CA"), "{order}");
    assert!(matches!(
        wrong(&format!("{ca}{server}{key}")),
        Wrong::Order { at: 1, .. }
    ));
    // The name of the authority, and another key.
    let forged = authority("Example CA").pem;
    assert!(matches!(
        wrong(&format!("{server}{forged}{key}")),
        Wrong::Signature { at: 1, .. }
    ));
    let long = format!("{server}{}{key}", ca.repeat(10));
    assert_eq!(wrong(&long), Wrong::Long(11));
    let rubbish = pem("CERTIFICATE", b"nothing");
    assert_eq!(wrong(&format!("{rubbish}{key}")), Wrong::Unreadable(1));
}

/// Goal: only what can vouch for a receiver is taken as an authority, and nothing else is kept of the text.
#[test]
fn authorities_vouch_for_somebody() {
    let (one, other) = (authority("Example CA"), authority("Other CA"));
    let (server, key) = one.server((2026, 2027));
    let both = format!("# ours\n{}{key}{}", one.pem, other.pem);
    let kept = authorities(both.as_bytes(), NOW_S).expect("two");
    assert_eq!(of_text(&kept).len(), 2);
    assert!(!kept.contains("PRIVATE") && !kept.contains('#'));
    assert!(matches!(
        authorities(server.as_bytes(), NOW_S),
        Err(Wrong::NoAuthority { at: 1, .. })
    ));
    assert_eq!(
        authorities(key.as_bytes(), NOW_S),
        Err(Wrong::NoCertificate)
    );
    assert_eq!(authorities(b"x", NOW_S), Err(Wrong::NotPem));
    let after = NOW_S + 20 * 366 * 86_400;
    assert!(matches!(
        authorities(one.pem.as_bytes(), after),
        Err(Wrong::Expired { .. })
    ));
    let own = params("hook.example", (2026, 2027)).self_signed(&super::tests::key());
    let own = own.expect("made").pem();
    assert!(
        authorities(own.as_bytes(), NOW_S).is_ok(),
        "a receiver's own"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100_000))]

    /// Goal: no bytes make the reader of one certificate panic, nor what judges it. Method: a good one with some of it changed, a
    /// little of it twice, or cut.
    #[test]
    fn a_changed_certificate_is_read_or_refused(
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0usize..4, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4)), 1..3),
        cut: Option<proptest::sample::Index>,
    ) {
        static GOOD: std::sync::LazyLock<Vec<CertificateDer<'static>>> = std::sync::LazyLock::new(|| {
            let one = authority("Example CA");
            let (server, _) = one.server((2026, 2027));
            certificates(&sections(format!("{server}{}", one.pem).as_bytes()).expect("good"))
        });
        let mut der = GOOD[0].to_vec();
        for (at, len, with) in changes {
            let at = at.index(der.len());
            let end = (at + len).min(der.len());
            der.splice(at..end, with);
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len() + 1));
        }
        let der = CertificateDer::from(der);
        if let Ok(changed) = super::read(&der, 1) {
            let _ = in_time(&changed, 1, NOW_S);
            let issuer = super::read(&GOOD[1], 2).expect("good");
            let _ = in_order(&[changed, issuer]);
        }
    }

    /// Goal: no order of sections, good ones and broken ones, makes the readers panic. Method: pieces of such texts.
    #[test]
    fn pieces_are_put_together_or_refused(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..6), any in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12)) {
        let text = [pieces.concat().as_bytes(), &any].concat();
        for text in [text.as_slice(), &any] {
            let _ = served(text, NOW_S);
            let _ = authorities(text, NOW_S);
        }
    }
}

const PIECES: &[&str] = &[
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\r\n",
    "-----END PRIVATE KEY-----\r\n",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    "-----END X-----",
    "-----BEGIN ",
    "-----",
    "MIIBszCCAVk=\n",
    "MIIB\nszCC\n",
    "====\n",
    "\u{feff}",
    "a note\n",
    "\n",
];

proptest::proptest! {
    // Whole texts are long: reading them is what takes the time.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]

    /// Goal: no bytes make the readers panic. Method: a good text with some of it changed, and any bytes.
    #[test]
    fn rubbish_is_refused(at in 0usize..4_000, with: Vec<u8>, any: Vec<u8>) {
        static GOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            let one = authority("Example CA");
            let (server, key) = one.server((2026, 2027));
            format!("{server}{}{key}", one.pem)
        });
        let mut text = GOOD.clone().into_bytes();
        let at = at.min(text.len());
        let end = (at + with.len()).min(text.len());
        text.splice(at..end, with);
        for text in [text, any] {
            let _ = served(&text, NOW_S);
            let _ = authorities(&text, NOW_S);
        }
    }
}
