use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    surge::cli::main(std::env::args_os()).await.into()
}
