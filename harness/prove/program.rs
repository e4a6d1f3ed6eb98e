use std::path::PathBuf;

/// The name of the executable.
const NAME: &str = env!("CARGO_PKG_NAME");

/// The path of the executable that becomes the workload image: the value of `SHIFTCHECK_PROGRAM`, or this process if it is the executable, or
/// the executable of the same build as the tests, or the one on the `PATH`.
pub(super) fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SHIFTCHECK_PROGRAM") {
        return path.into();
    }
    let executable = std::env::current_exe().ok();
    if let Some(executable) =
        executable.as_ref().filter(|executable| executable.file_stem().is_some_and(|stem| stem == NAME))
    {
        return executable.clone();
    }
    let built = executable.as_ref().and_then(|executable| Some(executable.parent()?.parent()?.join(NAME)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|program| program.is_file());
    built.filter(|program| program.is_file()).or(installed).unwrap_or_else(|| PathBuf::from(NAME))
}
