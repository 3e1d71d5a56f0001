//! Arguments in, exit code out. Everything else lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    uma_gateway::cli::main()
}
