//! Compose files of the old client: which services are of which role, with their variables, ports and volumes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::variables::Variables;

/// Where the images come from.
const REGISTRY: &str = "docker.whatsapp.biz/";

/// What a service is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Master,
    Coreapp,
    Webapp,
    Other,
}

/// One service.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub image: String,
    pub kind: Kind,
    pub variables: Variables,
    /// Published port and the one inside, in the order of the file.
    published: Vec<(u16, u16)>,
    /// Source and target.
    pub mounts: Vec<(String, String)>,
}

/// A volume that the file declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// As the engine calls it.
    pub name: String,
    /// `nfs` and the like; empty: a folder of the engine's.
    pub kind: String,
    pub device: String,
    pub options: String,
}

/// One compose file.
#[derive(Debug)]
pub struct Project {
    pub services: Vec<Service>,
    pub volumes: BTreeMap<String, Volume>,
}

impl Service {
    /// The port under which another one is published.
    pub fn published(&self, inside: u16) -> Option<u16> {
        let pair = self.published.iter().find(|(_, to)| *to == inside)?;
        Some(pair.0)
    }

    /// Ports in the order of the role's own: four of a master or coreapp, one of a webapp; empty where nothing says them.
    pub fn ports(&self) -> Vec<u16> {
        let list = match self.kind {
            Kind::Webapp => self
                .variables
                .get("WEBAPP_EXTERNAL_PORTS")
                .or_else(|| self.variables.get("EXTERNAL_WEBAPP_PORT")),
            Kind::Coreapp | Kind::Master => self.variables.get("COREAPP_EXTERNAL_PORTS"),
            Kind::Other => None,
        };
        let said: Vec<u16> = list
            .unwrap_or_default()
            .split(',')
            .filter_map(|port| port.trim().parse().ok())
            .collect();
        if !said.is_empty() {
            return said;
        }
        match self.kind {
            Kind::Webapp => self.published(443).into_iter().collect(),
            Kind::Coreapp | Kind::Master => (6250..=6253)
                .filter_map(|inside| self.published(inside))
                .collect(),
            Kind::Other => Vec::new(),
        }
    }

    /// The path on the machine of a file inside the container, where a bind mount shows it.
    pub fn outside(&self, inside: &str) -> Option<String> {
        let bound = self
            .mounts
            .iter()
            .filter(|(source, _)| source.starts_with('/'));
        bound
            .filter_map(|(source, target)| {
                let rest = inside.strip_prefix(target.trim_end_matches('/'))?;
                (rest.is_empty() || rest.starts_with('/'))
                    .then(|| format!("{}{rest}", source.trim_end_matches('/')))
            })
            .next()
    }
}

/// Reads one file; `common` fills in its variables.
///
/// # Errors
/// When it cannot be read, or is no YAML, or has no services.
pub fn read(file: &Path, common: &Variables, notes: &mut Vec<String>) -> anyhow::Result<Project> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // The folder's name is the project's, and the parent of a bare file name is nothing.
    let whole = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
    let folder = whole.parent().unwrap_or(Path::new("/"));
    parse(&text, folder, common, notes).with_context(|| file.display().to_string())
}

/// The text of a file that lies in `folder`.
pub fn parse(
    text: &str,
    folder: &Path,
    common: &Variables,
    notes: &mut Vec<String>,
) -> anyhow::Result<Project> {
    let filled = common.fill_in(text, notes)?;
    // The reader's own words show a part of the file, and with it perhaps a secret.
    let unread = |error: serde_saphyr::Error| match error.location() {
        Some(at) => anyhow::anyhow!("line {}: this is no YAML that can be read", at.line()),
        None => anyhow::anyhow!("this is no YAML that can be read"),
    };
    let document: Value = serde_saphyr::from_str(&filled).map_err(unread)?;
    let listed = document["services"]
        .as_object()
        .context("it has no services: is it a compose file?")?;
    let mut services = Vec::new();
    for (name, body) in listed {
        services.push(service(name, body, folder, common, notes)?);
    }
    let project = document["name"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| Some(folder.file_name()?.to_str()?.to_lowercase()));
    let project = project.unwrap_or_default();
    let declared = document["volumes"].as_object().cloned().unwrap_or_default();
    let volumes = declared
        .iter()
        .map(|(name, body)| (name.clone(), volume(name, body, &project)))
        .collect();
    Ok(Project { services, volumes })
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// A list, or one word for a list of one.
fn words(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

fn service(
    name: &str,
    body: &Value,
    folder: &Path,
    common: &Variables,
    notes: &mut Vec<String>,
) -> anyhow::Result<Service> {
    let image = body["image"].as_str().unwrap_or_default().to_owned();
    let mut variables = Variables::default();
    for file in words(&body["env_file"]) {
        let file = word(&file)
            .or_else(|| word(&file["path"]))
            .unwrap_or_default();
        match variables.read(&folder.join(&file), notes) {
            Ok(()) => {}
            // Files that were named with --env may lie elsewhere now.
            Err(error) => notes.push(format!("service {name}: {error:#}; name it with --env")),
        }
    }
    match &body["environment"] {
        Value::Object(map) => {
            for (key, value) in map {
                set(&mut variables, key, word(value).as_deref(), common);
            }
        }
        list => {
            for line in words(list) {
                let line = word(&line).unwrap_or_default();
                match line.split_once('=') {
                    Some((key, value)) => set(&mut variables, key, Some(value), common),
                    None => set(&mut variables, &line, None, common),
                }
            }
        }
    }
    let one_of = |part: &str| image.contains(&format!("{REGISTRY}{part}"));
    let master = variables
        .get("WA_MASTER_NODE")
        .or_else(|| common.get("WA_MASTER_NODE"))
        == Some("1");
    let kind = match () {
        () if one_of("web") => Kind::Webapp,
        () if one_of("coreapp") && master => Kind::Master,
        () if one_of("coreapp") => Kind::Coreapp,
        () => Kind::Other,
    };
    let copies = body["deploy"]["replicas"]
        .as_u64()
        .or_else(|| body["scale"].as_u64())
        .unwrap_or(1);
    if kind != Kind::Other && copies != 1 {
        notes.push(format!(
            "service {name} runs {copies} times: enable as many instances"
        ));
    }
    Ok(Service {
        name: name.to_owned(),
        image,
        kind,
        variables,
        published: words(&body["ports"]).iter().flat_map(ports).collect(),
        mounts: words(&body["volumes"])
            .iter()
            .filter_map(|mount| mounted(mount, folder))
            .collect(),
    })
}

/// A variable without a value is handed through from outside.
fn set(variables: &mut Variables, key: &str, value: Option<&str>, common: &Variables) {
    if let Some(value) = value.or_else(|| common.get(key)) {
        variables.set(key, value);
    }
}

/// `9090:443`, `127.0.0.1:6250-6253:6250-6253/tcp`, or the long form.
fn ports(port: &Value) -> Vec<(u16, u16)> {
    if let Some(target) = port["target"].as_u64() {
        let number = |value: &Value| word(value).and_then(|word| word.parse::<u16>().ok());
        let inside = u16::try_from(target).unwrap_or(0);
        return number(&port["published"])
            .map(|outside| (outside, inside))
            .into_iter()
            .collect();
    }
    let text = word(port).unwrap_or_default();
    let text = text.split('/').next().unwrap_or_default();
    let mut parts = text.rsplitn(3, ':');
    let (inside, outside) = (parts.next().and_then(range), parts.next().and_then(range));
    match (outside, inside) {
        (Some(outside), Some(inside)) => outside.zip(inside).collect(),
        _ => Vec::new(),
    }
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// `whatsappMedia:/usr/local/wamedia`, `./media:/usr/local/wamedia:rw`, or the long form.
fn mounted(mount: &Value, folder: &Path) -> Option<(String, String)> {
    let (source, target) = match mount["target"].as_str() {
        Some(target) => (mount["source"].as_str()?.to_owned(), target.to_owned()),
        None => {
            let text = mount.as_str()?;
            let mut parts = text.split(':');
            (parts.next()?.to_owned(), parts.next()?.to_owned())
        }
    };
    let source = if source.starts_with('.') {
        folder
            .join(source.trim_start_matches("./"))
            .display()
            .to_string()
    } else {
        source
    };
    Some((source, target))
}

fn volume(name: &str, body: &Value, project: &str) -> Volume {
    let given = body["name"]
        .as_str()
        .or_else(|| body["external"]["name"].as_str());
    let external = body["external"].as_bool() == Some(true) || body["external"].is_object();
    let full = match given {
        Some(given) => given.to_owned(),
        None if external => name.to_owned(),
        None => format!("{project}_{name}"),
    };
    let option = |key: &str| {
        body["driver_opts"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Volume {
        name: full,
        kind: option("type"),
        device: option("device"),
        options: option("o"),
    }
}
