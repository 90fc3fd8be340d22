//! How a stranger proves who they are: PINs, tries, throttles, sprays.

pub mod lockout;
pub mod pepper;
pub mod pepper_file;
pub mod pin;
mod priority;
pub mod row_mac;
pub mod spray;
pub mod stand_in;
pub mod throttle;
mod ticket;
