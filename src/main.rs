//! The `sixway` command.

fn main() -> std::process::ExitCode {
    sixway::cli::main()
}
