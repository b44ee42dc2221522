//! Interactive messages. The kinds that the reference client had, and their like, are checked; newer and unknown ones go
//! upstream as the client wrote them.
//! Knows no catalogue and no flow: whether they exist, the upstream says.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kept::{Draft, fits};
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// Kinds with one button or form that leads somewhere: `catalog_message`, `flow`, `cta_url`.
mod action;
/// Kinds with buttons that are answered: `button`, `list`.
mod answer;
/// Files, and where they stand.
pub mod placed;
/// Kinds that show products: `product`, `product_list`.
mod product;
/// What kinds have in common: header, body, footer.
mod shape;
/// Kinds that are not looked into, but for files.
mod verbatim;

use placed::Placed;

/// An interactive message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Interactive {
    object: Map<String, Value>,
    files: Vec<Placed>,
}

/// Its stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    object: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<Placed>,
}

impl From<Interactive> for Stored {
    fn from(interactive: Interactive) -> Self {
        Self {
            object: interactive.object,
            files: interactive.files,
        }
    }
}

impl TryFrom<Stored> for Interactive {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let whole = Value::Object(stored.object);
        let is_there = |placed: &Placed| whole.pointer(&placed.at).is_some_and(Value::is_object);
        if !stored.files.iter().all(is_there) {
            return Err("it has no place for a file");
        }
        match whole {
            Value::Object(object) => Ok(Self {
                object,
                files: stored.files,
            }),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err("it is no object"),
        }
    }
}

/// The kinds that are checked.
#[derive(Clone, Copy)]
enum Known {
    Button,
    List,
    Product,
    ProductList,
    Catalog,
    Flow,
    CtaUrl,
}

impl Known {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "button" => Some(Self::Button),
            "list" => Some(Self::List),
            "product" => Some(Self::Product),
            "product_list" => Some(Self::ProductList),
            "catalog_message" => Some(Self::Catalog),
            "flow" => Some(Self::Flow),
            "cta_url" => Some(Self::CtaUrl),
            _ => None,
        }
    }

    fn check(self, draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
        match self {
            Self::Button => answer::button(draft, files),
            Self::List => answer::list(draft, files),
            Self::Product => product::one(draft),
            Self::ProductList => product::list(draft, files),
            Self::Catalog => action::catalog(draft, files),
            Self::Flow => action::flow(draft, files),
            Self::CtaUrl => action::cta_url(draft, files),
        }
    }
}

impl Interactive {
    /// Reads the object `interactive` of a message.
    ///
    /// # Errors
    /// The documented code of what is wrong, with its path.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        let fields = body.need_object("interactive")?;
        let kind = fields.clone().need_text("type")?;
        let mut files = Vec::new();
        let object = match Known::parse(&kind) {
            Some(known) => {
                let mut draft = Draft::of(fields);
                draft.text("type", usize::MAX)?;
                known.check(&mut draft, &mut files)?;
                draft.done()
            }
            None => verbatim::read(fields.into_map(), &mut files)?,
        };
        let whole = Value::Object(object.clone());
        fits("interactive", &whole)?;
        Ok(Self { object, files })
    }

    /// All of it but where its files are.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Its files, each with its place in the object.
    pub fn files(&self) -> &[Placed] {
        &self.files
    }
}
