use std::process::ExitCode;

/// As in the service, so that what is measured in this process costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    spillway_e2e::bench::main().await
}
