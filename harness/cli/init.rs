use std::io::{Write, stdout};

use super::advice::Failure;
use super::args::InitArgs;
use crate::cluster::KubeCluster;
use crate::draft::{DraftError, draft, export};
use crate::session::SessionError;

/// Drafts a scenario, after exporting the manifests of a live namespace if one is given.
pub(super) async fn run(args: &InitArgs) -> Result<(), Failure> {
    let scenario = args.folder.join("scenario.yaml");
    if scenario.exists() {
        return Err(failed(&DraftError::Taken(scenario)));
    }
    let unwritable = |error: std::io::Error| Failure::bad_input(format!("{}: {error}", args.folder.display()));
    if let Some(namespace) = &args.namespace {
        let environment = |error| Failure::of(&SessionError::from(error));
        let connected = KubeCluster::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await;
        let (_, client) = connected.map_err(environment)?;
        let files = export(&client, namespace).await.map_err(environment)?;
        std::fs::create_dir_all(&args.folder).map_err(unwritable)?;
        for (name, text) in files {
            let path = args.folder.join(&name);
            if path.exists() {
                return Err(failed(&DraftError::Taken(path)));
            }
            std::fs::write(&path, text).map_err(unwritable)?;
            print(&format!("wrote {}", path.display()));
        }
    }
    let draft = draft(&args.folder).map_err(|error| failed(&error))?;
    draft.write().map_err(|error| failed(&error))?;
    for (path, _) in &draft.files {
        print(&format!("wrote {}", path.display()));
    }
    print("for you to decide:");
    draft.open.iter().for_each(|note| print(&format!("  - {note}")));
    print(&format!("next: shiftcheck verify {}", args.folder.display()));
    Ok(())
}

fn failed(error: &DraftError) -> Failure {
    let hint = match error {
        DraftError::Taken(_) => {
            Some("choose another folder, or move the file: init does not overwrite files".to_owned())
        }
        DraftError::NoService(_) => Some("add a Service that the clients call".to_owned()),
        _ => None,
    };
    Failure { hint, ..Failure::bad_input(error.to_string()) }
}

fn print(line: &str) {
    // a closed pipe is not an error
    let _ = writeln!(stdout(), "{line}");
}
