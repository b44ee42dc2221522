//! The table of calls: each call of the public port is one row. The router, who may call, the limits and deadlines, the labels
//! of the metrics, the description of the API and `tests/fixtures/v1/calls.txt` come from it.
//! What a call does is in the handler that its row names.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::OpenApi;

use super::call::{Body, Call, ServedBy, Within};
use super::{
    account, backup, block, business, calls, certificate, contact, description, gc, group, health,
    identity, media, message, profile, provider, registration, root, setting, stats, stickerpack,
    support, two_step, user,
};
use crate::api::v1::photo::PHOTO_LEN_MAX;
use crate::webapp::answer::{unknown_path, wrong_method};
use crate::webapp::audited::is_audited;
use crate::webapp::auth::Access;
use crate::webapp::edge::{self, Edge};
use crate::webapp::events;
use crate::webapp::owner::REGISTRATION_WITHIN;
use crate::webapp::state::Webapp;

/// A text of 4,096 characters fits many times over.
const JSON_LEN_MAX: usize = 256 << 10;
/// A photo, and what a form puts around it.
const PHOTO_BODY_LEN_MAX: usize = PHOTO_LEN_MAX + (64 << 10);
/// A backup, and what stands around it.
const BACKUP_LEN_MAX: usize = crate::api::v1::backup::BACKUP_LEN_MAX + (8 << 10);
/// What reading a body, a login or a slow database may take beside the wait for an owner.
const BEYOND_HOLD: Duration = Duration::from_secs(20);

/// One line a call: method, path, access, who serves it, body, deadline, handler.
macro_rules! calls {
    ($($method:ident $path:literal $access:ident $by:ident $body:ident $within:ident $module:ident::$handler:ident;)*) => {
        /// Every call of the public port.
        pub static CALLS: &[Call] = &[$(Call {
            method: Method::$method,
            path: $path,
            access: Access::$access,
            by: ServedBy::$by,
            body: Body::$body,
            within: Within::$within,
            route: || on(MethodFilter::$method, $module::$handler),
        }),*];

        /// The description of the API.
        #[derive(OpenApi)]
        #[openapi(
            info(title = "wa-agent", description = "WhatsApp messaging from a business's own machines"),
            paths($($module::$handler),*)
        )]
        pub struct Description;
    };
}

calls! {
    POST   "/v1/users/login"                                 Basic   Webapp Json    Hold     user::login;
    POST   "/v1/users/logout"                                User    Webapp Nothing Hold     user::logout;
    POST   "/v1/users"                                       Admin   Webapp Json    Hold     user::create;
    GET    "/v1/users/{username}"                            User    Webapp Nothing Hold     user::read;
    PUT    "/v1/users/{username}"                            User    Webapp Json    Hold     user::change;
    DELETE "/v1/users/{username}"                            Admin   Webapp Nothing Hold     user::delete;
    GET    "/v1/account/shards"                              Admin   Webapp Nothing Hold     account::shards;
    POST   "/v1/account/shards"                              Admin   Master Json    Hold     account::change_shards;
    GET    "/v1/settings/application"                        Admin   Webapp Nothing Hold     setting::read;
    PATCH  "/v1/settings/application"                        Admin   Master Json    Hold     setting::change;
    DELETE "/v1/settings/application"                        Admin   Master Nothing Hold     setting::restore;
    POST   "/v1/messages"                                    User    Owner  Json    Hold     message::send;
    PUT    "/v1/messages/{id}"                               User    Owner  Json    Hold     message::mark_read;
    POST   "/v1/contacts"                                    User    Webapp Json    Hold     contact::look_up;
    POST   "/v1/media"                                       User    Webapp File    Transfer media::upload;
    GET    "/v1/media/{id}"                                  User    Webapp Nothing Transfer media::download;
    DELETE "/v1/media/{id}"                                  User    Webapp Nothing Transfer media::delete;
    GET    "/v1/health"                                      Monitor Nodes  Nothing Hold     health::health;
    GET    "/v1/stats/db"                                    Monitor Master Nothing Hold     stats::stats_db;
    GET    "/v1/metrics"                                     Monitor Webapp Nothing Hold     stats::metrics;
    GET    "/metrics"                                        Monitor Webapp Nothing Hold     stats::metrics_at_the_root;
    POST   "/v1/account"                                     Admin   Master Json    Registration registration::ask;
    POST   "/v1/account/verify"                              Admin   Master Json    Registration registration::verify;
    POST   "/v1/settings/account/two-step"                   Admin   Owner  Json    Hold     two_step::set;
    DELETE "/v1/settings/account/two-step"                   Admin   Webapp Nothing Hold     two_step::clear;
    GET    "/v1/settings/application/media/providers"        Admin   Webapp Nothing Hold     provider::list;
    POST   "/v1/settings/application/media/providers"        Admin   Master Json    Hold     provider::store;
    DELETE "/v1/settings/application/media/providers/{name}" Admin   Master Nothing Hold     provider::delete;
    POST   "/v1/settings/backup"                             Admin   Master Json    Hold     backup::backup;
    POST   "/v1/settings/restore"                            Admin   Master Backup  Hold     backup::restore;
    GET    "/v1/settings/business/profile"                   User    Owner  Nothing Hold     business::profile;
    POST   "/v1/settings/business/profile"                   User    Owner  Json    Hold     business::change_profile;
    GET    "/v1/settings/business/compliance_info"           User    Owner  Nothing Hold     business::compliance;
    POST   "/v1/settings/business/compliance_info"           User    Owner  Json    Hold     business::change_compliance;
    GET    "/v1/settings/business/profile/compliance_info"   User    Owner  Nothing Hold     business::compliance_beside_the_profile;
    POST   "/v1/settings/business/profile/compliance_info"   User    Owner  Json    Hold     business::change_compliance_beside_the_profile;
    GET    "/v1/settings/profile/about"                      User    Owner  Nothing Hold     profile::about;
    PATCH  "/v1/settings/profile/about"                      User    Owner  Json    Hold     profile::change_about;
    GET    "/v1/settings/profile/photo"                      User    Owner  Nothing Hold     profile::photo;
    POST   "/v1/settings/profile/photo"                      User    Owner  Photo   Transfer profile::change_photo;
    DELETE "/v1/settings/profile/photo"                      User    Webapp Nothing Hold     profile::delete_photo;
    GET    "/v1/contacts/{wa_id}/identity"                   User    Webapp Nothing Hold     identity::read;
    PUT    "/v1/contacts/{wa_id}/identity"                   User    Webapp Json    Hold     identity::acknowledge;
    POST   "/v1/contacts/{wa_id}/block"                      User    Owner  Json    Hold     block::block;
    POST   "/v1/contacts/{wa_id}/unblock"                    User    Owner  Json    Hold     block::unblock;
    GET    "/v1/stats/app"                                   Monitor Nodes  Nothing Hold     stats::stats_app;
    GET    "/v1/stats/app/internal"                          Monitor Nodes  Nothing Hold     stats::stats_app_internal;
    GET    "/v1/stats/db/internal"                           Monitor Master Nothing Hold     stats::stats_db_internal;
    GET    "/v1/support"                                     User    Webapp Nothing Hold     support::support;
    PUT    "/v1/services/message/gc"                         User    Owner  Nothing Hold     gc::messages;
    PUT    "/v1/services/media/gc"                           User    Owner  Nothing Hold     gc::media;
    POST   "/v1/certificates/external"                       Admin   Webapp Pem     Hold     certificate::store;
    GET    "/v1/certificates/external/ca"                    Admin   Webapp Nothing Hold     certificate::ca;
    GET    "/v1/certificates/webhooks/ca"                    Admin   Webapp Nothing Hold     certificate::webhook_ca;
    POST   "/v1/certificates/webhooks/ca"                    Admin   Webapp Pem     Hold     certificate::store_webhook_ca;
    DELETE "/v1/certificates/webhooks/ca"                    Admin   Webapp Nothing Hold     certificate::delete_webhook_ca;
    GET    "/v1/stickerpacks"                                User    Webapp Nothing Hold     stickerpack::packs;
    POST   "/v1/stickerpacks"                                User    Webapp Json    Hold     stickerpack::create;
    GET    "/v1/stickerpacks/{pack}"                         User    Webapp Nothing Hold     stickerpack::pack;
    PATCH  "/v1/stickerpacks/{pack}"                         User    Webapp Json    Hold     stickerpack::change;
    DELETE "/v1/stickerpacks/{pack}"                         User    Webapp Nothing Hold     stickerpack::delete;
    GET    "/v1/stickerpacks/{pack}/stickers"                User    Webapp Nothing Hold     stickerpack::stickers;
    POST   "/v1/stickerpacks/{pack}/stickers"                User    Webapp Json    Hold     stickerpack::add;
    GET    "/v1/stickerpacks/{pack}/stickers/{index}"        User    Webapp Nothing Hold     stickerpack::sticker;
    PATCH  "/v1/stickerpacks/{pack}/stickers/{index}"        User    Webapp Json    Hold     stickerpack::change_sticker;
    DELETE "/v1/stickerpacks/{pack}/stickers/{index}"        User    Webapp Nothing Hold     stickerpack::delete_sticker;
    GET    "/v1/groups"                                      User    Nobody Nothing Hold     group::list;
    POST   "/v1/groups"                                      User    Nobody Nothing Hold     group::create;
    GET    "/v1/groups/{id}"                                 User    Nobody Nothing Hold     group::read;
    PUT    "/v1/groups/{id}"                                 User    Nobody Nothing Hold     group::change;
    PATCH  "/v1/groups/{id}/admins"                          User    Nobody Nothing Hold     group::add_admins;
    DELETE "/v1/groups/{id}/admins"                          User    Nobody Nothing Hold     group::delete_admins;
    DELETE "/v1/groups/{id}/participants"                    User    Nobody Nothing Hold     group::delete_participants;
    GET    "/v1/groups/{id}/icon"                            User    Nobody Nothing Hold     group::icon;
    POST   "/v1/groups/{id}/icon"                            User    Nobody Nothing Hold     group::change_icon;
    DELETE "/v1/groups/{id}/icon"                            User    Nobody Nothing Hold     group::delete_icon;
    GET    "/v1/groups/{id}/invite"                          User    Nobody Nothing Hold     group::invite;
    DELETE "/v1/groups/{id}/invite"                          User    Nobody Nothing Hold     group::delete_invite;
    POST   "/v1/groups/{id}/leave"                           User    Nobody Nothing Hold     group::leave;
    GET    "/"                                               Open    Webapp Nothing Hold     root::root;
    GET    "/v1/openapi.json"                                Open    Webapp Nothing Hold     calls::describe;
    GET    "/cloud/webhook"                                  Open    Webapp Nothing Hold     events::verify;
    POST   "/cloud/webhook"                                  Signed  Webapp Events  Hold     events::receive;
}

impl Call {
    /// Its label in metrics, as the reference client writes them: `PUT_v1_messages_id`.
    pub fn label(&self) -> String {
        let path = self.path.replace('/', "_").replace(['{', '}'], "");
        format!("{}{path}", self.method)
    }

    /// What the router knows it by: with and without a slash at its end. Ids of customers' messages are the upstream's, and may
    /// hold slashes: there everything behind the last word of the path is the id.
    fn patterns(&self) -> Vec<String> {
        match self.path {
            "/v1/messages/{id}" => vec!["/v1/messages/{*id}".to_owned()],
            "/" => vec!["/".to_owned()],
            path => vec![path.to_owned(), format!("{path}/")],
        }
    }

    /// Asked at each request: the hold follows the settings.
    fn within(&self) -> fn(&Webapp) -> Duration {
        match self.within {
            Within::Hold => |webapp| webapp.map.hold_timeout() + BEYOND_HOLD,
            Within::Registration => {
                |webapp| webapp.map.hold_timeout() + BEYOND_HOLD + REGISTRATION_WITHIN
            }
            Within::Transfer => |_| media::TRANSFER_WITHIN,
        }
    }

    fn limit(&self) -> DefaultBodyLimit {
        match self.body {
            Body::Nothing | Body::Json => DefaultBodyLimit::max(JSON_LEN_MAX),
            Body::Backup => DefaultBodyLimit::max(BACKUP_LEN_MAX),
            Body::Events => DefaultBodyLimit::max(events::EVENTS_LEN_MAX),
            Body::Photo => DefaultBodyLimit::max(PHOTO_BODY_LEN_MAX),
            Body::Pem => DefaultBodyLimit::max(crate::net::certificate::LEN_MAX),
            Body::File => DefaultBodyLimit::disable(),
        }
    }

    /// Its route: whoever may not call is answered before the body is read.
    fn route(&self, webapp: &Arc<Webapp>) -> MethodRouter<Arc<Webapp>> {
        let edge = Edge {
            webapp: Arc::clone(webapp),
            access: self.access,
            within: self.within(),
            answers: webapp.metrics.calls.of(&self.label()),
            audited: is_audited(&self.method, self.path, self.access)
                .then(|| format!("{} {}", self.method, self.path)),
        };
        (self.route)()
            .route_layer(self.limit())
            .route_layer(middleware::from_fn_with_state(Arc::new(edge), edge::call))
    }
}

/// The router of the public port, with what else the port serves. Trailing slashes are accepted everywhere, as published examples use
/// them.
pub fn router(webapp: Arc<Webapp>, beside: Router<Arc<Webapp>>) -> Router {
    let mut router = beside;
    for call in CALLS {
        for pattern in call.patterns() {
            router = router.route(&pattern, call.route(&webapp));
        }
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&webapp),
            edge::every,
        ))
        .with_state(webapp)
}

/// The description as it is answered; made at the first question.
static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| {
    let mut api = Description::openapi();
    description::complete(CALLS, &mut api);
    serde_json::to_vec(&api).expect("plain data is JSON").into()
});

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "monitoring",
    responses((status = 200, content_type = "application/json", body = serde_json::Value)))]
pub async fn describe() -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, DESCRIPTION.clone()).into_response()
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
