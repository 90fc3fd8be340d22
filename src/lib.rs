//! map
pub mod access;
pub mod bank;
pub mod config;
pub mod domain;
pub mod limits;
pub mod operator;
pub mod pki;
pub mod server;
pub mod service;
pub mod store;
pub mod surroundings;
pub mod telemetry;
pub mod wire;
