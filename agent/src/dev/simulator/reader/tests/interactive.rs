//! Interactive messages: see the room above.

use serde_json::{Value, json};

use super::{code, long, message, refused, taken, with};

fn interactive(kind: &str, action: Value) -> Value {
    message(
        "interactive",
        json!({"type": kind, "body": {"text": "b"}, "footer": {"text": "f"}, "action": action}),
    )
}

#[test]
fn what_interactive_kinds_share() {
    let good = interactive("location_request_message", json!({"name": "send_location"}));
    refused(
        &good,
        &[
            ("/interactive/type", json!("quiz"), 131_009),
            ("/interactive/type", json!(null), 131_008),
            ("/interactive/body", json!(null), 131_008),
            ("/interactive/body", json!("b"), 100),
            ("/interactive/body/text", json!(""), 100),
            ("/interactive/body/text", long(1025), 131_009),
            ("/interactive/footer/text", long(61), 131_009),
            (
                "/interactive/header",
                json!({"type": "text", "text": "é".repeat(61)}),
                131_009,
            ),
            (
                "/interactive/header",
                json!({"type": "sticker", "sticker": {"id": "7"}}),
                100,
            ),
            (
                "/interactive/header",
                json!({"type": "image", "image": {"id": "7", "caption": "c"}}),
                100,
            ),
            ("/interactive/action", json!(null), 131_008),
            ("/interactive/action/name", json!("send_place"), 100),
            ("/interactive/action/more", json!(1), 100),
            ("/interactive/more", json!(1), 100),
        ],
    );
    for (kind, action) in [
        (
            "request_contact_info",
            json!({"name": "request_contact_info"}),
        ),
        (
            "call_permission_request",
            json!({"name": "call_permission_request"}),
        ),
        (
            "catalog_message",
            json!({"name": "catalog_message", "parameters": {"thumbnail_product_retailer_id": "p"}}),
        ),
        (
            "address_message",
            json!({"name": "address_message", "parameters": {"country": "IN", "values": {"name": "A"}}}),
        ),
        (
            "voice_call",
            json!({"name": "voice_call", "parameters": {"display_text": "Call", "ttl_minutes": 100, "payload": "p"}}),
        ),
        (
            "order_details",
            json!({"name": "review_and_pay", "parameters": {"any": [1]}}),
        ),
        (
            "order_status",
            json!({"name": "review_order", "parameters": {"any": [1]}}),
        ),
    ] {
        taken([interactive(kind, action)]);
    }
}

#[test]
fn buttons() {
    let reply =
        |id: &str, title: &str| json!({"type": "reply", "reply": {"id": id, "title": title}});
    let good = interactive(
        "button",
        json!({"buttons": [reply("a", "A"), reply("b", "B")]}),
    );
    let at = "/interactive/action/buttons";
    let first = |rest: &str| format!("{at}/0{rest}");
    refused(
        &good,
        &[
            (at, json!([]), 131_009),
            (
                at,
                json!([
                    reply("a", "A"),
                    reply("b", "B"),
                    reply("c", "C"),
                    reply("d", "D")
                ]),
                131_009,
            ),
            (&first("/type"), json!("url"), 100),
            (&first("/reply/id"), json!("b"), 131_009),
            (&first("/reply/id"), json!(" a"), 131_009),
            (&first("/reply/id"), long(257), 131_009),
            (&first("/reply/id"), json!(1), 100),
            (&first("/reply/title"), json!("B"), 131_009),
            (&first("/reply/title"), long(21), 131_009),
            (&first("/reply/title"), json!(null), 131_008),
        ],
    );
    for name in ["image", "video", "document"] {
        let header = json!({"type": name, name: {"id": "7"}});
        taken([with(&good, "/interactive/header", header)]);
    }
}

#[test]
fn lists() {
    let row = |n: usize| json!({"id": n.to_string(), "title": "t", "description": "d"});
    let rows = |count: usize| (0..count).map(row).collect::<Value>();
    let section = |count: usize| json!({"title": "s", "rows": rows(count)});
    let good = interactive(
        "list",
        json!({"button": "Choose", "sections": [section(5), section(5)]}),
    );
    let at = "/interactive/action/sections";
    let first = |rest: &str| format!("{at}/0{rest}");
    refused(
        &good,
        &[
            ("/interactive/action/button", long(21), 131_009),
            ("/interactive/action/button", json!(null), 131_008),
            ("/interactive/body/text", long(4097), 131_009),
            (
                "/interactive/header",
                json!({"type": "image", "image": {"id": "7"}}),
                100,
            ),
            (at, json!([]), 131_009),
            (at, (0..11).map(|_| section(1)).collect(), 131_009),
            (at, json!([section(5), section(6)]), 131_009),
            (&first("/title"), json!(null), 131_008),
            (&first("/title"), long(25), 131_009),
            (&first("/rows"), json!([]), 131_009),
            (&first("/rows/0/id"), long(201), 131_009),
            (&first("/rows/0/title"), long(25), 131_009),
            (&first("/rows/0/description"), long(73), 131_009),
            (&first("/rows/0/payload"), json!("p"), 100),
        ],
    );
    taken([
        with(&good, "/interactive/body/text", long(4096)),
        with(&good, at, json!([{"rows": rows(10)}])),
    ]);
}

#[test]
fn products() {
    let item = json!({"product_retailer_id": "p"});
    let section = |count: usize| json!({"title": "s", "product_items": vec![item.clone(); count]});
    let good = interactive(
        "product_list",
        json!({"catalog_id": "c", "sections": [section(15), section(15)]}),
    );
    let good = with(
        &good,
        "/interactive/header",
        json!({"type": "text", "text": "h"}),
    );
    let at = "/interactive/action/sections";
    refused(
        &good,
        &[
            ("/interactive/header", json!(null), 131_008),
            (
                "/interactive/header",
                json!({"type": "image", "image": {"id": "7"}}),
                100,
            ),
            ("/interactive/action/catalog_id", json!(null), 131_008),
            (at, (0..11).map(|_| section(1)).collect(), 131_009),
            (at, json!([section(15), section(16)]), 131_009),
            (&format!("{at}/0/title"), json!(null), 131_008),
            (&format!("{at}/0/product_items/0/id"), json!("p"), 100),
        ],
    );
    let one = interactive(
        "product",
        json!({"catalog_id": "c", "product_retailer_id": "p"}),
    );
    refused(
        &one,
        &[
            (
                "/interactive/header",
                json!({"type": "text", "text": "h"}),
                100,
            ),
            (
                "/interactive/action/product_retailer_id",
                json!(null),
                131_008,
            ),
        ],
    );
    taken([with(&one, "/interactive/body", json!(null))]);
}

#[test]
fn flows_links_and_calls() {
    let flow = interactive(
        "flow",
        json!({"name": "flow", "parameters": {"flow_message_version": "3", "flow_id": "1", "flow_cta": "Book", "flow_token": "t",
            "mode": "draft", "flow_action": "navigate", "flow_action_payload": {"screen": "S", "data": {"a": 1}}}}),
    );
    let at = |rest: &str| format!("/interactive/action/parameters{rest}");
    refused(
        &flow,
        &[
            (&at("/flow_message_version"), json!(3), 100),
            (&at("/flow_message_version"), json!("2"), 100),
            (&at("/flow_name"), json!("n"), 100),
            (&at("/flow_id"), json!(null), 100),
            (&at("/flow_cta"), json!(null), 131_008),
            (&at("/mode"), json!("test"), 100),
            (&at("/flow_action"), json!("go"), 100),
            (&at("/flow_action_payload/more"), json!(1), 100),
        ],
    );
    let link = interactive(
        "cta_url",
        json!({"name": "cta_url", "parameters": {"display_text": "See", "url": "https://shop.example/"}}),
    );
    refused(
        &link,
        &[
            (&at("/display_text"), long(21), 131_009),
            (&at("/url"), json!("shop.example"), 131_009),
            (&at("/url"), json!(null), 131_008),
        ],
    );
    let call = interactive(
        "voice_call",
        json!({"name": "voice_call", "parameters": {"display_text": "Call", "ttl_minutes": 100, "payload": "p"}}),
    );
    refused(
        &call,
        &[
            (&at("/display_text"), long(21), 131_009),
            (&at("/ttl_minutes"), json!(0), 131_009),
            (&at("/ttl_minutes"), json!(43_201), 131_009),
            (&at("/payload"), long(513), 131_009),
        ],
    );
    let address = interactive(
        "address_message",
        json!({"name": "address_message", "parameters": {"country": "IN"}}),
    );
    refused(
        &address,
        &[
            (&at("/country"), json!(null), 131_008),
            (&at("/street"), json!("x"), 100),
        ],
    );
}

#[test]
fn carousels() {
    let card = |n: u64, action: Value| {
        json!({"card_index": n, "type": "cta_url", "header": {"type": "image", "image": {"id": "7"}}, "body": {"text": "b"},
            "action": action})
    };
    let url = || json!({"name": "cta_url", "parameters": {"display_text": "See", "url": "https://shop.example/"}});
    let replies = |count: usize| {
        let reply = |n: usize| json!({"type": "quick_reply", "quick_reply": {"id": n.to_string(), "title": "t"}});
        json!({"buttons": (0..count).map(reply).collect::<Value>()})
    };
    let of = |cards: Value| {
        let body = interactive("carousel", json!({"cards": cards}));
        with(&body, "/interactive/footer", json!(null))
    };
    let good = of(json!([card(0, url()), card(1, url())]));
    let at = "/interactive/action/cards";
    let first = |rest: &str| format!("{at}/0{rest}");
    refused(
        &good,
        &[
            (at, json!([card(0, url())]), 131_009),
            (at, (0..11).map(|n| card(n, url())).collect(), 131_009),
            (
                "/interactive/header",
                json!({"type": "text", "text": "h"}),
                100,
            ),
            (&first("/card_index"), json!(1), 131_009),
            (&first("/header"), json!(null), 131_008),
            (
                &first("/header"),
                json!({"type": "document", "document": {"id": "7"}}),
                100,
            ),
            (&first("/body/text"), long(161), 131_009),
            (&first("/body/text"), json!("a\nb\nc\nd"), 131_009),
            (&first("/action"), replies(1), 131_009),
            (&first("/footer"), json!({"text": "f"}), 100),
        ],
    );
    let product = |n: u64| json!({"card_index": n, "type": "product", "action": {"catalog_id": "c", "product_retailer_id": n.to_string()}});
    taken([
        of(json!([card(0, replies(2)), card(1, replies(2))])),
        of(json!([product(0), product(1)])),
    ]);
    assert_eq!(
        code(&of(json!([card(0, replies(2)), card(1, replies(1))]))),
        131_009
    );
}
