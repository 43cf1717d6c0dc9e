//! try
use clap::Parser;
#[derive(Parser)]
struct A { #[command(flatten)] d: spike_gate::demo::DemoArgs }
#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    spike_gate::demo::main(A::parse().d).await
}
