//! The `shiftcheck` program; everything is in the library.

fn main() -> std::process::ExitCode {
    shiftcheck::main()
}
