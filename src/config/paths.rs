//! Where a path really leads, for paths that need not exist yet.

use std::path::{Component, Path, PathBuf};

/// Whether two files lie, or would lie, in one folder: as they are named or behind their links.
pub(super) fn share_a_folder(one: &Path, other: &Path) -> bool {
    let others = folders(other);
    folders(one).iter().any(|folder| others.contains(folder))
}

fn folders(file: &Path) -> Vec<PathBuf> {
    let named = file.parent().map(real);
    let behind_links = real(file).parent().map(Path::to_owned);
    named.into_iter().chain(behind_links).collect()
}

/// The path without links and dots: what exists of it is asked of the system, the rest is read.
fn real(path: &Path) -> PathBuf {
    // An empty path is the working folder, as the parent of `bank.db` is.
    let whole = Path::new(".").join(path);
    let found = whole.ancestors().find_map(|ancestor| {
        let real = ancestor.canonicalize().ok()?;
        let rest = whole.strip_prefix(ancestor).ok()?;
        Some((real, rest))
    });
    let (mut reached, rest) = found.unwrap_or((PathBuf::new(), &whole));
    for component in rest.components() {
        match component {
            Component::ParentDir => {
                reached.pop();
            }
            Component::Normal(name) => reached.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_share_a_folder_by_any_of_its_names() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("data")).unwrap();
        std::fs::create_dir_all(at("certs")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        std::fs::write(at("data/secret"), "").unwrap();
        std::os::unix::fs::symlink(at("data/secret"), at("certs/pepper")).unwrap();
        let store = at("data/bank.db");
        for same in [
            "data/pepper",
            "link/pepper",
            "certs/../data/pepper",
            "certs/pepper",
            "none/../data/pepper",
        ] {
            assert!(share_a_folder(&at(same), &store), "{same}");
        }
        for other in ["pepper", "certs/other", "data/below/pepper", "data2/pepper"] {
            assert!(!share_a_folder(&at(other), &store), "{other}");
        }
        assert!(share_a_folder(Path::new("a"), Path::new("./none/../b")));
    }
}
