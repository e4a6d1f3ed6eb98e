use std::path::PathBuf;

/// The name of the program.
const NAME: &str = env!("CARGO_PKG_NAME");

/// Where the program is that becomes the workload image: where `SHIFTCHECK_PROGRAM` says; else this process, if it is the program; else beside
/// the tests of the same build; else on the `PATH`.
pub(super) fn program() -> PathBuf {
    if let Some(told) = std::env::var_os("SHIFTCHECK_PROGRAM") {
        return told.into();
    }
    let own = std::env::current_exe().ok();
    if let Some(own) = own.as_ref().filter(|own| own.file_stem().is_some_and(|stem| stem == NAME)) {
        return own.clone();
    }
    let built = own.as_ref().and_then(|own| Some(own.parent()?.parent()?.join(NAME)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|program| program.is_file());
    built.filter(|program| program.is_file()).or(installed).unwrap_or_else(|| PathBuf::from(NAME))
}
