//! Locations.

use serde_json::{Map, Value};

use crate::api::v1::message::location::Location;

/// The object `location`: degrees are strings there, too.
pub fn object(location: &Location) -> Value {
    let mut object = Map::new();
    object.insert("latitude".into(), location.latitude.as_str().into());
    object.insert("longitude".into(), location.longitude.as_str().into());
    for (name, value) in [("name", &location.name), ("address", &location.address)] {
        if let Some(value) = value {
            object.insert(name.into(), value.as_str().into());
        }
    }
    object.into()
}
