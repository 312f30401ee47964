//! Walrus from outside: the engine against a model, the daemon over HTTP with signed requests,
//! killed at any moment, and with real clients.

mod clients;
mod crash;
mod daemon_process;
mod http_api;
mod http_auth;
mod http_multipart;
mod model;
mod s3_client;
