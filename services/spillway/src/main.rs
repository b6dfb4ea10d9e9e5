use std::process::ExitCode;

/// Thousands of small, long-lived allocations for sessions beside short-lived buffers of every size: mimalloc keeps
/// them apart and gives pages back, where the system's allocator keeps what a burst has used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    spillway::cli::main()
}
