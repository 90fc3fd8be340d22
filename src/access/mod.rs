//! How a stranger proves who they are: PINs, tries, throttles. Uses `domain` only.

pub mod lockout;
pub mod pepper;
pub mod pin;
mod priority;
pub mod throttle;
