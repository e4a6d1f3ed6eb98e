use std::io::{Write, stdout};
use std::path::Path;

use super::advice::Failure;
use super::args::InitArgs;
use crate::cluster::KubeCluster;
use crate::draft::{DraftError, draft, export, write_example};
use crate::session::SessionError;

/// Writes a bundled example, or drafts a scenario.
pub(super) async fn run(args: &InitArgs) -> Result<(), Failure> {
    match &args.example {
        Some(name) => example(name, args.source.as_deref().unwrap_or(Path::new(name))),
        None => Box::pin(drafted(args, args.source.as_deref().unwrap_or(Path::new(".")))).await,
    }
}

fn example(name: &str, folder: &Path) -> Result<(), Failure> {
    let files = write_example(name, folder).map_err(|error| failed(&error))?;
    for path in &files {
        print(&format!("wrote {}", path.display()));
    }
    let folder = folder.display();
    print(&format!("next: `shiftcheck verify {folder}`, `shiftcheck run {folder} --cluster embedded`"));
    Ok(())
}

/// Drafts a scenario, after exporting the manifests of a live namespace if one is given.
async fn drafted(args: &InitArgs, source: &Path) -> Result<(), Failure> {
    let is_text = source.is_file() || source == Path::new("-");
    let scenario = if is_text { source.with_file_name("scenario.yaml") } else { source.join("scenario.yaml") };
    if scenario.exists() {
        return Err(failed(&DraftError::Taken(scenario)));
    }
    if let Some(namespace) = &args.namespace {
        let environment = |error| Failure::of(&SessionError::from(error));
        let connected = KubeCluster::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        let (_, client) = connected.map_err(environment)?;
        let files = export(&client, namespace).await.map_err(environment)?;
        let unwritable = |error: std::io::Error| Failure::bad_input(format!("{}: {error}", source.display()));
        std::fs::create_dir_all(source).map_err(unwritable)?;
        for (name, text) in files {
            let path = source.join(&name);
            if path.exists() {
                return Err(failed(&DraftError::Taken(path)));
            }
            std::fs::write(&path, text).map_err(unwritable)?;
            print(&format!("wrote {}", path.display()));
        }
    }
    let draft = draft(source).map_err(|error| failed(&error))?;
    for path in draft.write().map_err(|error| failed(&error))? {
        print(&format!("wrote {}", path.display()));
    }
    for (title, notes) in [("skipped:", &draft.skipped), ("for you to decide:", &draft.open)] {
        if !notes.is_empty() {
            print(title);
        }
        for note in notes {
            print(&format!("  - {note}"));
        }
    }
    print(&format!("next: shiftcheck verify {}", draft.folder.display()));
    Ok(())
}

fn failed(error: &DraftError) -> Failure {
    let hint = match error {
        DraftError::Taken(_) => "choose another folder, or move the file: init does not overwrite it".to_owned(),
        DraftError::NoService { .. } => "add a Service that the clients call".to_owned(),
        DraftError::Chart(chart) => {
            format!("`helm template {} | shiftcheck init -` reads the rendered manifests", chart.display())
        }
        _ => return Failure::bad_input(error.to_string()),
    };
    Failure { hint: Some(hint), ..Failure::bad_input(error.to_string()) }
}

fn print(line: &str) {
    // a closed pipe is not an error
    let _ = writeln!(stdout(), "{line}");
}
