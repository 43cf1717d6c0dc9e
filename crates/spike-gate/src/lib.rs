//! The front door of a site: calm until the wave comes, then the crowd carries it.

pub mod duration;
pub mod overload;
