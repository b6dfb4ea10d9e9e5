//! A run for other programs: tables, a pull request, a build server.

pub(crate) mod cohorts;
pub mod csv;
pub mod junit;
pub mod markdown;
