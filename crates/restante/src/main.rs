//! The binary: hands its arguments to [`restante::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    restante::cli::main(std::env::args_os())
}
