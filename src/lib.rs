//! map
pub mod access;
pub mod domain;
pub mod store;
pub mod surroundings;
pub mod wire;
