//! Role webapp: the public `/v1` HTTP API; finds the owner of a shard in the shard map and forwards.
//! Holds no state that another webapp would miss: users, tokens, settings and events live in the database.
