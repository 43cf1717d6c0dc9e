//! Tests of metainfo, by subject.

use super::*;

mod bad;
mod build;
mod hybrid;
mod read;
mod support;
mod vectors;
