//! The product from outside: real binaries, real TLS, real files.

mod certificates;
mod terminal;
mod traces;
