use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::advice::Failure;
use crate::scenario::Scenario;

const SHALLOW: &str = "this clone is shallow: fetch the history with `git fetch --unshallow`, or check out with `fetch-depth: 0` in GitHub \
                       Actions and `GIT_DEPTH: 0` in GitLab CI";

/// The files of a scenario at a git revision, in a temporary folder. Nothing else of the repository is read.
pub(super) struct Revision {
    name: String,
    folder: tempfile::TempDir,
    /// The scenario file in that folder.
    pub scenario: PathBuf,
}

impl Revision {
    /// Reads the scenario that is now at a path, as it is at a revision.
    pub fn read(name: &str, scenario: &Path) -> Result<Self, Failure> {
        let full = scenario.canonicalize().map_err(|error| Failure::bad_input(error.to_string()))?;
        let full = if full.is_dir() { full.join("scenario.yaml") } else { full };
        let beside = full.parent().unwrap_or(Path::new("/"));
        let repository = Repository::at(name, beside)?;
        let commit = repository.commit()?;
        let failed = |error: std::io::Error| Failure::environment(format!("cannot extract {name}: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let relative = full.strip_prefix(&repository.root).unwrap_or(&full).to_owned();
        let revision = Self { name: name.to_owned(), scenario: folder.path().join(&relative), folder };
        revision.extract(&repository, &commit, vec![relative])?;
        // a scenario that cannot be read is an error with its place once it is read from the folder
        let text = fs::read_to_string(&revision.scenario).unwrap_or_default();
        let named = Scenario::named_files(&revision.scenario, &text).unwrap_or_default();
        let inside = named.iter().filter_map(|path| Some(path.strip_prefix(revision.folder.path()).ok()?.to_owned()));
        revision.extract(&repository, &commit, inside.collect())?;
        Ok(revision)
    }

    /// Writes files of a commit to the folder. Files that the commit does not have are left out.
    fn extract(&self, repository: &Repository<'_>, commit: &str, paths: Vec<PathBuf>) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::environment(format!("cannot extract {}: {error}", repository.revision));
        let mut wanted = tempfile::tempfile().map_err(failed)?;
        // git reads one name a line
        let paths: Vec<PathBuf> = paths.into_iter().filter(|path| !path.to_string_lossy().contains('\n')).collect();
        for path in &paths {
            writeln!(wanted, "{commit}:{}", path.display()).map_err(failed)?;
        }
        wanted.seek(SeekFrom::Start(0)).map_err(failed)?;
        let found = repository.git(&["cat-file", "--batch", "--follow-symlinks"], wanted.into())?;
        let mut rest = found.as_slice();
        for path in paths {
            let Some(content) = next_object(&mut rest) else { continue };
            let path = self.folder.path().join(path);
            let parent = path.parent().unwrap_or(self.folder.path());
            fs::create_dir_all(parent).and_then(|()| fs::write(&path, content)).map_err(failed)?;
        }
        Ok(())
    }

    /// A message with paths as `REVISION:PATH` instead of paths in the temporary folder.
    pub fn shown(&self, message: &str) -> String {
        message.replace(&format!("{}/", self.folder.path().display()), &format!("{}:", self.name))
    }
}

/// The next object in the output of `git cat-file --batch`: a header with the size, the content, a line feed. None if it does not exist.
fn next_object<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (header, after) = rest.split_at(end);
    *rest = &after[1..];
    let header = std::str::from_utf8(header).ok()?;
    let mut words = header.rsplit(' ');
    let size: usize = words.next()?.parse().ok()?;
    let is_file = words.next() == Some("blob");
    // of a link that leads nowhere git tells the name in the same form
    let content = rest.get(..size)?;
    *rest = rest.get(size + 1..)?;
    is_file.then_some(content)
}

/// A git repository in which a revision is looked up.
struct Repository<'a> {
    revision: &'a str,
    root: PathBuf,
}

impl<'a> Repository<'a> {
    fn at(revision: &'a str, folder: &Path) -> Result<Self, Failure> {
        let mut repository = Self { revision, root: folder.to_owned() };
        let root = repository.git(&["rev-parse", "--show-toplevel"], Stdio::null())?;
        repository.root = PathBuf::from(String::from_utf8_lossy(&root).trim_end());
        Ok(repository)
    }

    fn commit(&self) -> Result<String, Failure> {
        // `--end-of-options` prevents that git reads a revision as an option
        let commit = format!("{}^{{commit}}", self.revision);
        let commit = self.git(&["rev-parse", "--verify", "--end-of-options", &commit], Stdio::null());
        let commit = commit.map_err(|failure| {
            let shallow = self.git(&["rev-parse", "--is-shallow-repository"], Stdio::null());
            let shallow = shallow.is_ok_and(|said| said.starts_with(b"true"));
            Failure { hint: shallow.then(|| SHALLOW.to_owned()), ..failure }
        })?;
        Ok(String::from_utf8_lossy(&commit).trim_end().to_owned())
    }

    fn git(&self, arguments: &[&str], input: Stdio) -> Result<Vec<u8>, Failure> {
        let wrong = |said: &str| {
            let said = said.lines().next().unwrap_or_default();
            Failure::bad_input(format!("`{}` is neither a folder nor a git revision: {said}", self.revision))
        };
        let output = Command::new("git").arg("-C").arg(&self.root).args(arguments).stdin(input).output();
        let output = output.map_err(|error| wrong(&error.to_string()))?;
        if output.status.success() { Ok(output.stdout) } else { Err(wrong(&String::from_utf8_lossy(&output.stderr))) }
    }
}
