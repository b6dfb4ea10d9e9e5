//! Memory: what many small, idle things cost.

/// Turns transparent huge pages off for this process. The allocator asks for them, and then a session whose few
/// buffers touch a corner of each huge page keeps all of it resident: measured with `cargo xtask bench --only idle`,
/// 45 kB for each idle session with them and 29 kB without.
#[cfg(target_os = "linux")]
pub(crate) fn use_small_pages() {
    // Refused: sessions cost more memory, and nothing else changes.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn use_small_pages() {}
