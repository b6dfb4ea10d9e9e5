use std::process::ExitCode;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    spillway_e2e::fault::main().await
}
