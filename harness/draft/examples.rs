use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::DraftError;

/// The bundled example scenarios.
static FIXTURES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/fixtures");

/// The names of the bundled example scenarios.
pub fn examples() -> impl Iterator<Item = &'static str> {
    FIXTURES.dirs().filter_map(|example| example.path().to_str())
}

/// The files of a bundled example; none if there is no such example. Manifests that it shares with another example are in a subfolder with the
/// name of the other one.
fn example(name: &str) -> Option<Vec<(PathBuf, Vec<u8>)>> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for file in FIXTURES.get_dir(name)?.files() {
        let path = file.path().file_name()?.into();
        // a descriptor set is no text
        let Some(text) = file.contents_utf8() else {
            files.push((path, file.contents().to_owned()));
            continue;
        };
        for shared in FIXTURES.dirs().flat_map(Dir::files) {
            if text.contains(&format!("../{}", shared.path().display())) {
                files.push((shared.path().to_owned(), shared.contents().to_owned()));
            }
        }
        files.push((path, text.replace("../", "").into_bytes()));
    }
    Some(files)
}

/// Writes a bundled example into a folder and returns the files.
///
/// # Errors
/// There is no such example, a file already exists, in which case nothing is written, or a file cannot be written.
pub fn write_example(name: &str, folder: &Path) -> Result<Vec<PathBuf>, DraftError> {
    let files = example(name).ok_or_else(|| DraftError::NoExample(name.to_owned()))?;
    let files: Vec<_> = files.into_iter().map(|(path, text)| (folder.join(path), text)).collect();
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(DraftError::Taken(taken.clone()));
    }
    for (path, text) in &files {
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(DraftError::at(parent))?;
        std::fs::write(path, text).map_err(DraftError::at(path))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::{Discriminant, discriminant};

    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;
    use crate::verify::{Decided, verify};

    #[test]
    fn an_example_is_complete_and_gives_what_its_fixture_gives() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let decided = |scenario: &Path| -> Vec<(Discriminant<Decided>, String)> {
            let scenario = Scenario::read(scenario).unwrap();
            let stages = verify(&Plan::new(&scenario));
            let claims = stages.into_iter().flat_map(|stage| stage.claims);
            claims.map(|claim| (discriminant(&claim.decided), claim.given.to_string())).collect()
        };
        let names: BTreeSet<&str> = examples().collect();
        let folders = std::fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().file_name());
        let folders: Vec<String> = folders.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(names, folders.iter().map(String::as_str).collect());
        for name in names {
            let folder = tempfile::tempdir().unwrap();
            let written = write_example(name, &folder.path().join("new")).unwrap();
            assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), written.len(), "{name}: a file is written twice");
            assert_eq!(decided(&folder.path().join("new")), decided(&fixtures.join(name)), "{name}");
            let again = write_example(name, &folder.path().join("new"));
            assert!(matches!(again, Err(DraftError::Taken(_))), "{again:?}");
        }
    }
}
