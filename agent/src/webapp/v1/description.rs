//! The description of the public API (OpenAPI 3.1): what the handlers say of themselves, and what the table of calls adds: who
//! may call, who serves it, bodies, and the refusals that every call of a kind can meet.
//! Says nothing that is not in one of the two.

use axum::http::Method;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, Schema};

use super::call::{Body, Call, ServedBy};
use crate::webapp::auth::Access;

/// Adds to the description what the table says of each call.
pub fn complete(calls: &[Call], api: &mut OpenApi) {
    let components = api.components.get_or_insert_with(Default::default);
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    components.add_security_scheme(
        "basic",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)),
    );
    let apikey = ApiKeyValue::with_description("authorization", "Apikey <key>");
    components.add_security_scheme("apikey", SecurityScheme::ApiKey(ApiKey::Header(apikey)));
    for call in calls {
        let item = api.paths.paths.get_mut(call.path);
        if let Some(operation) = item.and_then(|item| operation(item, &call.method)) {
            complete_one(call, operation);
        }
    }
}

fn complete_one(call: &Call, operation: &mut Operation) {
    let none = || std::iter::empty::<String>();
    let needed = schemes(call.access)
        .iter()
        .map(|name| SecurityRequirement::new(*name, none()));
    operation.security = Some(needed.collect());
    let said = Extensions::builder()
        .add("x-access", call.access.as_str())
        .add("x-served-by", call.by.as_str());
    operation.extensions = Some(said.build());
    // Names of handlers are not unique.
    operation.operation_id = Some(call.label());
    name_path(call, operation);
    describe_body(call, operation);
    for (status, why) in refusals(call) {
        let known = operation.responses.responses.entry(status.to_owned());
        let known = known.or_insert_with(|| RefOr::T(Response::new("")));
        if let RefOr::T(response) = known
            && response.description.is_empty()
        {
            why.clone_into(&mut response.description);
        }
    }
    if call.by == ServedBy::Nobody {
        let responses = &mut operation.responses.responses;
        responses.retain(|status, _| !status.starts_with('2'));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            describe_response(status, response);
        }
    }
}

/// Credentials that let a call in, any one of them.
fn schemes(access: Access) -> &'static [&'static str] {
    match access {
        Access::Open | Access::Signed => &[],
        Access::Basic => &["basic"],
        Access::User | Access::Admin => &["bearer"],
        Access::Monitor => &["bearer", "apikey"],
    }
}

/// Names in the path that the handler says nothing of.
fn name_path(call: &Call, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_with(Vec::new);
    for name in call
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        let said = |known: &RefOr<Parameter>| matches!(known, RefOr::T(known) if known.name == name && known.parameter_in == ParameterIn::Path);
        if !parameters.iter().any(said) {
            let text = ObjectBuilder::new().schema_type(Type::String);
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(text));
            parameters.push(RefOr::T(parameter.build()));
        }
    }
}

/// The body of a call whose handler says nothing of it.
fn describe_body(call: &Call, operation: &mut Operation) {
    let (kind, schema) = match call.body {
        Body::Nothing => {
            operation.request_body = None;
            return;
        }
        Body::Json | Body::Backup | Body::Events => ("application/json", ObjectBuilder::new()),
        Body::Pem => (
            "application/x-pem-file",
            ObjectBuilder::new().schema_type(Type::String),
        ),
        Body::File | Body::Photo => {
            let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
            let text = ObjectBuilder::new().schema_type(Type::String);
            ("application/octet-stream", text.format(Some(binary)))
        }
    };
    if operation.request_body.is_none() {
        let schema = Schema::Object(schema.build());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let body = RequestBodyBuilder::new().content(kind, content).build();
        operation.request_body = Some(RefOr::T(body));
    }
}

/// Statuses of refusals that a call of this kind can meet, and when.
pub fn refusals(call: &Call) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    let has_names = call.path.contains('{');
    if call.body != Body::Nothing || has_names {
        found.push((
            "400",
            "The request is not valid; details say what must be otherwise.",
        ));
    }
    match call.access {
        Access::Open => {}
        Access::Signed => found.push(("403", "The signature does not fit the body.")),
        Access::Basic | Access::User | Access::Monitor => {
            found.push(("401", "Nobody is logged in with what was shown."));
        }
        Access::Admin => {
            found.push(("401", "Nobody is logged in with what was shown."));
            found.push((
                "403",
                "Only the administrator may do this, or WhatsApp does not allow it.",
            ));
        }
    }
    if has_names || call.by == ServedBy::Nobody {
        found.push(("404", "There is nothing of this name."));
    }
    if call.body != Body::Nothing {
        found.push(("408", "The body did not come in time."));
        found.push(("413", "The body is too large."));
    }
    if call.access == Access::Basic {
        found.push((
            "429",
            "Too many logins failed; Retry-After says when to try again.",
        ));
    }
    match call.by {
        ServedBy::Owner => {
            found.push(("403", "WhatsApp does not allow it."));
            found.push((
                "429",
                "WhatsApp wants fewer calls; Retry-After says when to try again.",
            ));
        }
        ServedBy::Webapp | ServedBy::Master | ServedBy::Nodes | ServedBy::Nobody => {}
    }
    if call.access != Access::Open {
        found.push((
            "503",
            "The database, the owner of the number, the primary master or WhatsApp is away; Retry-After says when to try again.",
        ));
    }
    found
}

/// Every response has a description, and every refusal the error object.
fn describe_response(status: &str, response: &mut Response) {
    let refused = status.starts_with(['4', '5']);
    if response.description.is_empty() {
        let text = if refused {
            "It was refused."
        } else {
            "It is done."
        };
        text.clone_into(&mut response.description);
    }
    if refused && response.content.is_empty() {
        let schema = Ref::from_schema_name("ErrorBody");
        let content: Content = ContentBuilder::new().schema(Some(schema)).build();
        let json = "application/json".to_owned();
        response.content.insert(json, RefOr::T(content));
    }
}

/// The operation of a method.
fn operation<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match *method {
        Method::GET => item.get.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        Method::PATCH => item.patch.as_mut(),
        Method::HEAD => item.head.as_mut(),
        _ => None,
    }
}
