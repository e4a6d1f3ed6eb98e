//! The process: the command line, the executable, and environment variables.

use std::path::{Path, PathBuf};

use super::advice::Failure;

/// The command line of this process, quoted for a shell.
pub(super) fn reproduce() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(|| program.clone(), |name| name.to_string_lossy().into_owned());
    let quoted = words.map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    std::iter::once(program).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// The path of this executable.
pub(super) fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find the shiftcheck executable: {error}")))
}

/// Whether output has colours: on a terminal, unless `NO_COLOR` is set.
pub(super) fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the process runs in CI.
pub(super) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
