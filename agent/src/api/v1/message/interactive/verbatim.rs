//! Kinds that go upstream as the client wrote them: newer ones, and ones that nobody knows yet. Only files are looked for, since
//! the upstream knows none of our ids.
//! Checks nothing else.

use serde_json::{Map, Value};

use super::super::media::{self, MediaKind};
use super::placed::Placed;
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// What a flow is given belongs to the flow, whatever it looks like.
const NOT_OURS: &str = "flow_action_payload";

/// A step into the object.
enum Step {
    Field(String),
    Item(usize),
}

/// Takes the files out of an object: ids of ours in objects that are named as a kind of media, wherever they stand, and in a
/// header links, too. What is neither stays where it is.
///
/// # Errors
/// As a media object of its own: id and link at once, a provider that is none.
pub fn read(
    object: Map<String, Value>,
    files: &mut Vec<Placed>,
) -> Result<Map<String, Value>, ApiError> {
    walk(object, &mut Vec::new(), files)
}

fn walk(
    object: Map<String, Value>,
    steps: &mut Vec<Step>,
    files: &mut Vec<Placed>,
) -> Result<Map<String, Value>, ApiError> {
    let in_header = matches!(steps.last(), Some(Step::Field(name)) if name == "header");
    let mut walked = Map::new();
    for (name, value) in object {
        steps.push(Step::Field(name.clone()));
        let value = match (value, kind(&name)) {
            (Value::Object(object), Some(kind)) => file(object, kind, in_header, steps, files)?,
            (value, _) if name == NOT_OURS => value,
            (value, _) => below(value, steps, files)?,
        };
        steps.pop();
        walked.insert(name, value);
    }
    Ok(walked)
}

fn below(value: Value, steps: &mut Vec<Step>, files: &mut Vec<Placed>) -> Result<Value, ApiError> {
    match value {
        Value::Object(object) => walk(object, steps, files).map(Value::Object),
        Value::Array(items) => {
            let mut walked = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                steps.push(Step::Item(index));
                walked.push(below(item, steps, files)?);
                steps.pop();
            }
            Ok(walked.into())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Ok(plain),
    }
}

/// Fields under which a file may stand. A moving picture is a video.
fn kind(name: &str) -> Option<MediaKind> {
    match name {
        "gif" => Some(MediaKind::Video),
        other => MediaKind::parse(other),
    }
}

fn file(
    object: Map<String, Value>,
    kind: MediaKind,
    in_header: bool,
    steps: &mut Vec<Step>,
    files: &mut Vec<Placed>,
) -> Result<Value, ApiError> {
    let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_ours = uuid::Uuid::try_parse(text("id")).is_ok();
    let is_linked = in_header && text("id").is_empty() && !text("link").is_empty();
    if !is_ours && !is_linked {
        return walk(object, steps, files).map(Value::Object);
    }
    let mut fields = Fields::at(path(steps), object);
    let source = media::source(&mut fields)?;
    files.push(Placed::new(pointer(steps), kind, source));
    Ok(fields.into_map().into())
}

/// As a JSON pointer (RFC 6901).
fn pointer(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        Step::Item(index) => format!("/{index}"),
    };
    steps.iter().map(step).collect()
}

/// As refusals have it.
fn path(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item(index) => format!("[{index}]"),
    };
    let below: String = steps.iter().map(step).collect();
    format!("interactive{below}")
}
