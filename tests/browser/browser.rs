//! A browser of one story: what people do in it, and what they see.
//! Judges nothing.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::cluster::{PASSWORD, World};
use crate::driver::{Said, Tool};

/// The longest that anything on a page is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pages in the navigation that this release does not have yet: they are left out only while they answer 404.
const NOT_YET: [&str; 0] = [];

/// An open browser.
pub struct Browser {
    client: Client,
    url: String,
}

/// How the browser is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    Run,
    /// As a reader has it who forbids them.
    Forbidden,
}

/// Where pictures are.
pub fn pictures() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/console");
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

/// Tells a story of somebody who only looks, beside others who do so.
pub fn story(world: &World, name: &str, scripts: Scripts, tale: impl AsyncFnOnce(&Browser)) {
    let peace = world.peace.read().unwrap_or_else(PoisonError::into_inner);
    tell(world, name, scripts, tale);
    drop(peace);
}

/// Tells a story in which something breaks, while nobody else looks.
pub fn breaking(world: &World, name: &str, tale: impl AsyncFnOnce(&Browser)) {
    let alone = world.peace.write().unwrap_or_else(PoisonError::into_inner);
    tell(world, name, Scripts::Run, tale);
    drop(alone);
}

/// Tells it in a browser of its own, and closes that, however the story ends. One that ends badly leaves a picture.
fn tell(world: &World, name: &str, scripts: Scripts, tale: impl AsyncFnOnce(&Browser)) {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let browser = Browser::open(world, scripts).await;
        let told = AssertUnwindSafe(tale(&browser)).catch_unwind().await;
        if let Err(panic) = told {
            browser.picture(&format!("failed-{name}"), 1280).await;
            let _ = browser.client.clone().close().await;
            std::panic::resume_unwind(panic);
        }
        browser.client.close().await.expect("it closes");
    });
    println!("{name}: {} ms", begun.elapsed().as_millis());
}

impl Browser {
    async fn open(world: &World, scripts: Scripts) -> Self {
        let content = match scripts {
            Scripts::Run => 1,
            Scripts::Forbidden => 2,
        };
        // No sandbox: it cannot be had as root in a container, and no page of others is opened.
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                "--accept-lang=en"],
            "prefs": { "profile.managed_default_content_settings.javascript": content },
        });
        let wanted =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let wanted = wanted.as_object().cloned().unwrap_or_default();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&world.driver)
            .await;
        Self {
            client: client.expect("a browser"),
            url: world.dev.url.clone(),
        }
    }

    /// Opens a page of the console.
    pub async fn go(&self, path: &str) {
        let opened = self.client.goto(&format!("{}{path}", self.url)).await;
        opened.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Asks the page.
    pub async fn ask(&self, script: &str) -> Value {
        let answer = self.client.execute(script, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Asks the page something that takes time; `done` is what the script calls with its answer.
    pub async fn ask_later(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0];\n{script}");
        let answer = self.client.execute_async(&script, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The words of the page at this address, as they are seen.
    pub async fn words(&self, css: &str) -> String {
        let script = format!("return document.querySelector({css:?})?.innerText ?? ''");
        let answer = self.ask(&script).await;
        answer.as_str().unwrap_or_default().to_owned()
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, what: &str, script: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            // While a page is replaced by another, the question may fail.
            let answer = self.client.execute(script, Vec::new()).await;
            match answer {
                Ok(answer) if wanted(&answer) => return answer,
                answer => assert!(Instant::now() < until, "never {what}: {answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types into a field, in place of what it holds.
    pub async fn fill(&self, name: &str, text: &str) {
        let css = format!("input[name={name}]");
        let field = self.client.find(Locator::Css(&css)).await.expect(name);
        field.clear().await.expect(name);
        field.send_keys(text).await.expect(name);
    }

    /// Clicks; once more where a fresh panel took the place of what was found.
    pub async fn click(&self, css: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.client.find(Locator::Css(css)).await.expect(css);
            match found.click().await {
                Ok(()) => return,
                Err(error) => {
                    let replaced = error.is_stale_element_reference();
                    assert!(replaced && Instant::now() < until, "{css}: {error}");
                }
            }
        }
    }

    /// A command of the browser's own tools.
    pub async fn tool(&self, command: &'static str, words: Value) -> Value {
        let answer = self.client.issue_cmd(Tool(command, words)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Presses a key, by its name and code.
    pub async fn press(&self, (key, code): (&str, u8)) {
        let text = if key == "Enter" { "\r" } else { "" };
        let words = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
        self.tool("Input.dispatchKeyEvent", words).await;
    }

    /// Nothing went wrong in the browser's own eyes, but what is expected.
    pub async fn had_no_error_but(&self, expected: &[&str]) {
        let said = self.client.issue_cmd(Said).await.expect("its console");
        let said = said.as_array().cloned().unwrap_or_default();
        let severe = said.iter().filter(|one| one["level"] == "SEVERE");
        let texts = severe.map(|one| one["message"].as_str().unwrap_or_default());
        let wrong: Vec<&str> = texts
            .filter(|text| !expected.iter().any(|one| text.contains(one)))
            .collect();
        assert!(wrong.is_empty(), "the browser's console: {wrong:#?}");
    }

    /// Fills the form of the login, and sends it.
    pub async fn log_in_with(&self, password: &str) {
        self.log_in_as("admin", password).await;
    }

    /// The same as somebody.
    pub async fn log_in_as(&self, name: &str, password: &str) {
        self.go("/console/login").await;
        self.fill("username", name).await;
        self.fill("password", password).await;
        self.click("button[type=submit]").await;
    }

    /// Logs in as the administrator.
    pub async fn log_in(&self) {
        self.log_in_with(PASSWORD).await;
        self.is_at("/console").await;
    }

    /// Waits for the page at this address.
    pub async fn is_at(&self, path: &str) {
        let script = "return document.readyState === 'complete' && location.pathname";
        self.until(path, script, |at| at == path).await;
    }

    /// Chooses a language by its cookie: the pseudo-locale is on no page.
    pub async fn speak(&self, tag: &str) {
        self.go(&format!("/console/language/{tag}")).await;
    }

    /// The pages of the navigation.
    pub async fn pages(&self) -> Vec<String> {
        self.go("/console").await;
        let script =
            "return [...document.querySelectorAll('nav.pages a')].map((one) => one.pathname)";
        let found = self.ask(script).await;
        let found: Vec<String> = serde_json::from_value(found).expect("addresses");
        assert!(found.len() >= 3, "{found:?}");
        let mut pages = Vec::new();
        for page in found {
            let script =
                format!("fetch({page:?}, {{ method: 'HEAD' }}).then((it) => done(it.status))");
            let missing = NOT_YET.contains(&&*page) && self.ask_later(&script).await == 404;
            if !missing {
                pages.push(page);
            }
        }
        // The failed look at what is not there yet is no error of a page.
        let _ = self.client.issue_cmd(Said).await;
        pages
    }

    /// The pages of the navigation, and those that lie behind them: one decision, a search with and one without a result, and a page
    /// that is not there. Each with a name for files.
    pub async fn all_pages(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for path in self.pages().await {
            let name = path.trim_start_matches("/console").trim_start_matches('/');
            let name = if name.is_empty() { "cluster" } else { name };
            all.push((name.to_owned(), path.clone()));
        }
        self.go("/console/timeline").await;
        let script = "return document.querySelector('#decisions a').pathname";
        let one = self.ask(script).await;
        let one = one.as_str().expect("a decision").to_owned();
        let customer = crate::cluster::CUSTOMER;
        for (name, path) in [
            ("decision", one),
            ("found", format!("/console/messages?find={customer}")),
            ("not-found", "/console/messages?find=nothing".to_owned()),
            ("missing", "/console/timeline/999999999".to_owned()),
            ("act", "/console/act?act=pause&minutes=5".to_owned()),
        ] {
            all.push((name.to_owned(), path));
        }
        all
    }

    /// Light or dark, as the reader's system says.
    pub async fn scheme(&self, name: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": name}]});
        self.tool("Emulation.setEmulatedMedia", features).await;
    }

    /// A window of this size, in px; returns when the page is drawn in it.
    pub async fn size(&self, width: u32, height: u64) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tool("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Draws the whole page into a file.
    pub async fn picture(&self, name: &str, width: u32) {
        self.size(width, 900).await;
        let height = self
            .ask("return document.documentElement.scrollHeight")
            .await;
        let height = height.as_u64().unwrap_or(900).clamp(400, 6_000);
        self.size(width, height).await;
        let picture = self
            .tool("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        let data = picture["data"].as_str().unwrap_or_default();
        let data = base64::engine::general_purpose::STANDARD
            .decode(data)
            .expect("a picture");
        let path = pictures().join(format!("{name}.png"));
        std::fs::write(&path, data).expect("written");
    }
}
