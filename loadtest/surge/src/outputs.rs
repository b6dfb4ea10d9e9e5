//! A run for other programs: tables, a pull request, a build server.

pub mod csv;
pub mod junit;
pub mod markdown;
