//! Goal: `setup` asks for all that this client needs beside the number, and nobody has to give it. Method: the real binary with a
//! folder instead of /.

use crate::setup::{Machine, mode, words};

const FIXED: [&str; 3] = ["--sqlite", "--phone-number-id", "1"];
const FRAGMENT: &str = "etc/wa-agent/conf.d/10-setup.toml";
const PIN: &str = "etc/wa-agent/credentials/upstream-pin";

/// Goal: what belongs to the number is written where it is named, and stays when setup is typed again without it.
#[test]
fn what_belongs_to_the_number_is_written() {
    let machine = Machine::new();
    let pin = machine.path("pin");
    std::fs::write(&pin, "123456\n").expect("written");
    let pin = pin.display().to_string();
    let secrets = machine.secrets();
    let ids = ["--waba-id", "22", "--app-id", "33", "--portfolio-id", "44"];
    let named = [&words(&FIXED, &secrets)[..], &ids, &["--pin-file", &pin]].concat();
    let (code, said) = machine.type_("setup", &named);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("123456"), "{said}");
    let fragment = machine.read(FRAGMENT);
    for line in [
        "waba_id = \"22\"",
        "app_id = \"33\"",
        "portfolio_id = \"44\"",
    ] {
        assert!(fragment.contains(line), "{line}: {fragment}");
    }
    assert!(!fragment.contains("123456"), "{fragment}");
    assert_eq!(machine.read(PIN).trim(), "123456");
    assert_eq!(mode(&machine.path(PIN)), 0o600);
    let (code, said) = machine.type_("setup", &FIXED);
    assert!(
        code == 0 && said.contains("everything is there already"),
        "{said}"
    );
    assert_eq!(machine.read(FRAGMENT), fragment);
    assert_eq!(machine.read(PIN).trim(), "123456");
}

/// Goal: nobody has to give it, and a pin that no coreapp would start with is refused before anything is written.
#[test]
fn what_belongs_to_the_number_may_be_left_out() {
    let machine = Machine::new();
    let secrets = machine.secrets();
    let pin = machine.path("pin");
    std::fs::write(&pin, "12345").expect("written");
    let pin = pin.display().to_string();
    let fixed = words(&FIXED, &secrets);
    let (code, said) = machine.type_("setup", &[&fixed[..], &["--pin-file", &pin]].concat());
    assert!(code == 1 && said.contains("six digits"), "{said}");
    assert!(!machine.path("etc").exists(), "{said}");
    let (code, said) = machine.type_("setup", &fixed);
    assert_eq!(code, 0, "{said}");
    let fragment = machine.read(FRAGMENT);
    assert!(!fragment.contains("waba_id"), "{fragment}");
    assert!(!machine.path(PIN).exists());
}
